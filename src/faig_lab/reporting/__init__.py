"""Tables, figures, the report and the W&B record, all made from the files of a run folder."""
