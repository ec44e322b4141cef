"""Where the discovered filters sit."""

from faig_lab.attribution import discovered
from faig_lab.studies.masking import distribution


def test_the_distribution_counts_every_discovered_filter_once(network, make_attribution):
    attribution = make_attribution(network)
    percents = [0.1, 1, 10, 100]
    rows = distribution(attribution, percents)
    layout = attribution.layout
    assert {r["method"] for r in rows} == {"faig"}
    assert len(rows) == 2 * len(percents) * len(layout.layers)
    for k, degradation in enumerate(attribution.degradations):
        for percent in percents:
            chosen = [r for r in rows if (r["degradation"], r["percent"]) == (degradation, percent)]
            filters = discovered(attribution.scores["faig"][0, k], percent)
            assert [r["depth"] for r in chosen] == list(range(len(layout.layers)))
            assert sum(r["discovered"] for r in chosen) == len(filters)
            assert sum(r["filters"] for r in chosen) == len(layout)
            addresses = [layout.address(i).layer for i in filters.tolist()]
            for layer, found in zip(layout.layers, chosen, strict=True):
                assert f"{found['layer']}.weight" == layer.name
                assert found["discovered"] == addresses.count(layer.name)
                assert found["share"] == found["discovered"] / found["filters"]
    assert all(r["share"] == 1 for r in rows if r["percent"] == 100)
