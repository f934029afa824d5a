"""What results mean, as numbers; nothing is drawn.

For other packages: `groups.group_by`, the one way to group runs; `comparison`, the specification
of a picture; `intervals`; `predictions`, theory for a measured quantity; `verdicts`; `examine`;
`ranking`; `looks`, the colours of pictures and pages.
"""
