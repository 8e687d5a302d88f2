"""Style: the look of the HTML report, as one style sheet.

Colours have names, each with a light and a dark value; a test computes the contrast
of every pair that is used.  Paper gets the light ones.
"""

from __future__ import annotations

LIGHT = {
    "page": "#ffffff",
    "panel": "#f6f7f9",
    "text": "#1b1f24",
    "muted": "#545d68",
    "rule": "#d0d5db",
    "link": "#0b57a4",
    "curve": "#1a5fb4",
    "band": "#c8dcf4",
    "bound": "#a0430a",
    "pass": "#146c34",
    "pass-back": "#e4f4e8",
    "fail": "#a61b1b",
    "fail-back": "#fdeaea",
    "inconclusive": "#7a4d00",
    "inconclusive-back": "#fdf1d8",
    "notjudged": "#545d68",
    "notjudged-back": "#eceef1",
}
DARK = {
    "page": "#14171b",
    "panel": "#1c2026",
    "text": "#e6e9ed",
    "muted": "#a4adb8",
    "rule": "#3a414a",
    "link": "#8ab8f2",
    "curve": "#82b1f0",
    "band": "#2b4468",
    "bound": "#f0a267",
    "pass": "#7fd79a",
    "pass-back": "#15301d",
    "fail": "#ff9d9d",
    "fail-back": "#431c1e",
    "inconclusive": "#f0c465",
    "inconclusive-back": "#3a2d10",
    "notjudged": "#a4adb8",
    "notjudged-back": "#2a2f36",
}
TEXT_PAIRS = (
    ("text", "page"),
    ("text", "panel"),
    ("muted", "page"),
    ("muted", "panel"),
    ("link", "page"),
    ("link", "panel"),
    ("pass", "page"),
    ("pass", "pass-back"),
    ("fail", "page"),
    ("fail", "fail-back"),
    ("inconclusive", "page"),
    ("inconclusive", "inconclusive-back"),
    ("notjudged", "notjudged-back"),
    ("text", "pass-back"),
    ("text", "fail-back"),
    ("text", "inconclusive-back"),
)
"""Text colour and what it stands on."""
SHAPE_PAIRS = (
    ("curve", "page"),
    ("curve", "panel"),
    ("curve", "band"),
    ("bound", "page"),
    ("bound", "panel"),
)
"""Lines and dots that carry a meaning, and what they lie on."""

RULES = """
*{box-sizing:border-box}
html{color-scheme:light dark;-webkit-text-size-adjust:100%}
body{margin:0;overflow-wrap:break-word;background:var(--page);color:var(--text);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Liberation Sans",Arial,sans-serif}
header,main,footer,nav{max-width:77rem;margin:0 auto;padding:0 1.25rem}
header{padding-top:1.75rem}
h1{font-size:1rem;font-weight:600;color:var(--muted);margin:0 0 .75rem}
h2{font-size:1.4rem;line-height:1.25;margin:0 0 .5rem}
h3{font-size:1.05rem;margin:1.75rem 0 .5rem}
h4{font-size:.95rem;margin:1rem 0 .25rem}
p,ul,ol,dl{margin:.5rem 0}
p,li,dd,blockquote{max-width:75ch}
a{color:var(--link)}
a:focus-visible,summary:focus-visible{outline:3px solid var(--link);outline-offset:2px;
border-radius:3px}
.skip{position:absolute;left:-999rem}
.skip:focus{position:static}
.muted,caption,figcaption{color:var(--muted)}
.small{font-size:.85rem}
code,.mono{font-family:ui-monospace,"Cascadia Mono","Liberation Mono",Menlo,monospace;
font-size:.88em;overflow-wrap:anywhere}
.verdict{border-left:.5rem solid;padding:1rem 1.25rem;border-radius:.375rem}
.verdict .state{display:block;font-size:2rem;font-weight:700;line-height:1.15}
.verdict p{color:var(--text);margin:.35rem 0 0}
.verdict ul{color:var(--text);margin-bottom:0}
.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(9rem,1fr));gap:.75rem 1.25rem;
margin:1.25rem 0}
.facts div{min-width:0}
.facts dt{font-size:.8rem;color:var(--muted)}
.facts dd{margin:0;font-weight:600;overflow-wrap:anywhere}
nav ul{list-style:none;padding:0;display:flex;flex-wrap:wrap;gap:.35rem 1.1rem;max-width:none;
font-size:.9rem}
section{margin:2.25rem 0}
section.behavior{border-top:2px solid var(--rule);padding-top:1.5rem}
.badge{display:inline-block;white-space:nowrap;font-weight:700;font-size:.85rem;line-height:1.4;
padding:.1rem .55rem;border-radius:1rem;border:1px solid}
.pass{color:var(--pass);background:var(--pass-back)}
.fail{color:var(--fail);background:var(--fail-back)}
.inconclusive{color:var(--inconclusive);background:var(--inconclusive-back)}
.notjudged{color:var(--notjudged);background:var(--notjudged-back)}
table{border-collapse:collapse;width:100%;font-size:.88rem;font-variant-numeric:tabular-nums}
caption{text-align:left;padding:0 0 .4rem;font-size:.85rem}
th,td{text-align:left;vertical-align:top;padding:.4rem .6rem .4rem 0;
border-bottom:1px solid var(--rule);overflow-wrap:break-word}
thead th{font-weight:600;color:var(--muted);border-bottom:2px solid var(--rule)}
tbody th{font-weight:600}
.n{white-space:nowrap}
.sub{display:block;color:var(--muted);font-size:.8rem;font-weight:400;line-height:1.35}
.charts{display:grid;grid-template-columns:repeat(4,minmax(0,1fr));gap:1rem}
figure{margin:0;background:var(--panel);border:1px solid var(--rule);border-radius:.375rem;
padding:.75rem .75rem .5rem;min-width:0}
figure h4{margin:0 0 .25rem}
figcaption{font-size:.8rem;line-height:1.4}
svg{display:block;width:100%;height:auto}
svg text{font-size:11.5px;fill:var(--muted)}
.strip{width:10.5rem;max-width:100%}
.grid{stroke:var(--rule);stroke-width:1}
.tick{stroke:var(--muted);stroke-width:1}
.baseline{stroke:var(--muted);stroke-width:1;stroke-dasharray:4 3}
.band{fill:var(--band)}
.curve{stroke:var(--curve);stroke-width:2}
.whisker{stroke:var(--curve);stroke-width:1.6}
.dot{fill:var(--curve);stroke:none}
.hollow{fill:var(--panel);stroke:var(--curve);stroke-width:1.5}
.bound{stroke:var(--bound);stroke-width:2;fill:none}
.allowed{fill:var(--rule);opacity:.55}
details{border:1px solid var(--rule);border-radius:.375rem;margin:.5rem 0;padding:0 .85rem}
details[open]{padding-bottom:.75rem}
summary{cursor:pointer;padding:.5rem 0;line-height:1.45}
summary .badge{margin-right:.4rem}
summary b{overflow-wrap:anywhere}
summary .sub{display:inline;margin-left:.4rem}
blockquote{margin:.25rem 0;padding:.15rem 0 .15rem .75rem;border-left:3px solid var(--rule);
white-space:pre-wrap;overflow-wrap:anywhere}
.sides{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(14rem,100%),1fr));gap:.75rem}
.sides div{min-width:0}
.notes{border-left:.3rem solid var(--bound);padding:.1rem 0 .1rem .85rem}
footer{border-top:1px solid var(--rule);padding-top:1rem;padding-bottom:2rem;margin-top:2.5rem}
.only-sr{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%);
white-space:nowrap}
@media screen and (max-width:70rem){
.charts{grid-template-columns:repeat(2,minmax(0,1fr))}
}
@media screen and (max-width:54rem){
thead{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
table,tbody,tr,th,td,caption{display:block}
tbody tr{border-bottom:2px solid var(--rule);padding:.5rem 0}
tbody th,tbody td{border:0;padding:.12rem 0}
tbody th{font-size:.95rem}
td[data-label]{display:grid;grid-template-columns:8.2rem minmax(0,1fr);gap:.6rem}
td[data-label]::before{content:attr(data-label);color:var(--muted);font-size:.82rem}
.n{white-space:normal}
}
@media screen and (max-width:36rem){
.charts{grid-template-columns:minmax(0,1fr)}
header,main,footer,nav{padding-left:.9rem;padding-right:.9rem}
.verdict .state{font-size:1.6rem}
}
@page{margin:14mm}
@media print{
html{font-size:8.5pt}
body{font-size:1rem;padding:0 1px}
header,main,footer,nav{max-width:none;padding:0}
nav,.skip,.back{display:none}
a{color:inherit;text-decoration:none}
section.behavior{break-before:page;border-top:0;padding-top:0;margin-top:0}
figure,tr,blockquote,.verdict,.item,summary{break-inside:avoid}
h2,h3,h4,caption,summary{break-after:avoid}
.charts{grid-template-columns:1fr 1fr}
details{border:0;padding:0}
summary{list-style:none;padding:.35rem 0}
*{-webkit-print-color-adjust:exact;print-color-adjust:exact}
}
"""


def style_sheet() -> str:
    """Write the whole style sheet; ASCII, and nothing in it is fetched."""
    return (
        f"{_palette(LIGHT)}\n@media screen and (prefers-color-scheme:dark){{{_palette(DARK)}}}"
        f"{RULES}"
    )


def _palette(colors: dict[str, str]) -> str:
    """Write colours as the page's variables."""
    return ":root{" + ";".join(f"--{name}:{value}" for name, value in colors.items()) + "}"
