"""Pages: what a run showed, as one HTML file that stands alone (see ``rudder.report``).

runlog: one rank's events   runs: a run folder   buckets, numerals: many points, read by people
markup: HTML and SVG, escaped   charts, bars: SVG that fits any width   page: what frames it all
overview, times, traffic, reasons, comparison, standings: the parts, one file each
"""
