"""What the claims about speed are measured with: `make bench`, or `python -m benchmarks` in the checkout.

Parts: a attribution against a plain implementation, b against the machine's floor, c training, d memory, e growth.
docs/performance.md says how to read the results.
"""
