"""The style sheet of the HTML report."""

_LIGHT = """
--page: #f7f7f5; --card: #ffffff; --ink: #1c2330; --soft: #565f6e;
--rule: #dfe2e6; --link: #1d4f91; --high: #b3261e; --high-bg: #fdecea;
--warning: #7a5200; --warning-bg: #fff4dc; --info: #1d4f91;
--info-bg: #e9f1fb; --good: #176b3a; --good-bg: #e6f4ea;
--c0: #0068a8; --c1: #c24e00; --c2: #007d5a; --c3: #a8437e; --c4: #7a6200;
--c5: #5b54b8; --c6: #5f6670; --worst: #111722;
"""

_DARK = """
--page: #101318; --card: #191e26; --ink: #e9ecf1; --soft: #a9b2c0;
--rule: #323a46; --link: #9cc3ff; --high: #ff9c92; --high-bg: #3b1c1b;
--warning: #ffca6b; --warning-bg: #372a10; --info: #9cc3ff;
--info-bg: #182a44; --good: #7fd9a2; --good-bg: #14301f;
--c0: #6ab8f0; --c1: #ff9d5c; --c2: #45d3a4; --c3: #f0a0cb; --c4: #e6d04a;
--c5: #b3acff; --c6: #b4bcc8; --worst: #ffffff;
"""

_RULES = """
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans",
  sans-serif; }
main { max-width: 1040px; margin: 0 auto; padding: 2.2rem 1.2rem 3rem; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0; letter-spacing: -.01em;
  overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.6rem 0 .3rem; }
h3 { font-size: 1rem; margin: 1.6rem 0 .4rem; }
p { margin: .4rem 0 .8rem; max-width: 46rem; }
.soft, figcaption, .note { color: var(--soft); }
.note { font-size: .9rem; }
.lead { font-size: 1.05rem; }
header .soft { margin-top: .3rem; }
.tiles { display: grid; gap: .9rem; margin: 1.3rem 0 0;
  grid-template-columns: repeat(auto-fit, minmax(190px, 1fr)); }
.tile, .card, .verdict, .finding { background: var(--card);
  border: 1px solid var(--rule); border-radius: 10px; }
.tile { padding: .9rem 1.1rem 1rem; }
.tile b { display: block; font-size: 2rem; line-height: 1.25;
  font-variant-numeric: tabular-nums; letter-spacing: -.02em; }
.tile span { display: block; color: var(--soft); font-size: .9rem; }
.tile .what { color: var(--ink); font-weight: 600; }
.verdict { margin: 1.1rem 0 0; max-width: none; padding: .8rem 1.1rem;
  border-width: 1px 1px 1px
  5px; font-weight: 600; }
.card { padding: 1rem 1.1rem; margin: .8rem 0; }
.high { --tone: var(--high); --tint: var(--high-bg); }
.warning { --tone: var(--warning); --tint: var(--warning-bg); }
.info { --tone: var(--info); --tint: var(--info-bg); }
.good { --tone: var(--good); --tint: var(--good-bg); }
.none { --tone: var(--soft); --tint: var(--card); }
.verdict { border-color: var(--tone); background: var(--tint);
  color: var(--tone); }
.findings { list-style: none; margin: .8rem 0; padding: 0; display: grid;
  gap: .6rem; }
.finding { padding: .7rem 1rem; border-left: 5px solid var(--tone); }
.finding p { margin: 0; max-width: none; }
.badge { display: inline-block; background: var(--tint); color: var(--tone);
  border-radius: 99px; font-size: .78rem; font-weight: 700; padding: .05rem
  .6rem; margin-right: .5rem; text-transform: uppercase;
  letter-spacing: .04em; }
.finding details { margin-top: .3rem; font-size: .9rem; color: var(--soft); }
.finding dl, .facts { display: grid; grid-template-columns: max-content 1fr;
  gap: .15rem 1rem; margin: .5rem 0 .2rem; }
.finding dd, .facts dd { margin: 0; overflow-wrap: anywhere; }
.facts dt { color: var(--soft); }
.scroll { overflow-x: auto; padding: .3rem 0; }
table { border-collapse: collapse; width: 100%;
  font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--soft); font-size: .9rem;
  padding: 0 0 .5rem; }
th, td { padding: .42rem .7rem; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-left: .3rem; }
thead th { color: var(--soft); font-size: .82rem; font-weight: 600;
  border-bottom: 1px solid var(--rule); vertical-align: bottom; }
tbody tr + tr th, tbody tr + tr td { border-top: 1px solid var(--rule); }
tbody th { font-weight: 500; }
tbody tr.group th { background: var(--page); font-weight: 700;
  padding: .45rem .3rem; text-align: left; }
tbody tr.worst th, tbody tr.worst td { font-weight: 700; }
td .range-text { color: var(--soft); font-weight: 400; font-size: .88rem;
  margin-left: .35rem; }
td.alarm { color: var(--high); font-weight: 700; }
td.chart { width: 24%; min-width: 120px; }
svg.bar { display: block; width: 100%; height: 16px; }
.bar .track { fill: var(--rule); } .bar rect { fill: var(--tone); }
.bar .zero { fill: var(--soft); }
.bar .fill { opacity: .5; } .bar .range { opacity: .35; }
.tone { --tone: var(--c0); } .tone-worst { --tone: var(--worst); }
.tone-clean { --tone: var(--good); }
svg.plot, svg.matrix { display: block; width: 100%; height: auto; }
figure.card { max-width: 840px; }
svg.matrix { max-width: 460px; margin: 0 auto; }
svg text { fill: var(--soft); font-size: 12.5px; }
svg text.strong { fill: var(--ink); font-weight: 700; }
.grid { stroke: var(--rule); } .axis { stroke: var(--soft); }
.c0 { --tone: var(--c0); } .c1 { --tone: var(--c1); }
.c2 { --tone: var(--c2); } .c3 { --tone: var(--c3); }
.c4 { --tone: var(--c4); } .c5 { --tone: var(--c5); }
.c6 { --tone: var(--c6); } svg .worst, .key.worst { --tone: var(--worst); }
.line { fill: none; stroke: var(--tone); stroke-width: 2;
  stroke-linejoin: round; }
.line.worst { stroke-width: 3; }
.line.between { stroke-dasharray: 2 5; }
.band { fill: var(--tone); opacity: .12; }
.whisker { stroke: var(--tone); stroke-width: 2; opacity: .55; }
.dot { fill: var(--tone); stroke: var(--card); stroke-width: 1.5; }
.column { fill: var(--c0); opacity: .8; }
.ideal { stroke: var(--ink); stroke-width: 2; stroke-dasharray: 5 4; }
.near { fill: var(--c1); } .far { fill: var(--c0); }
.matrix text:not(.strong) { fill: var(--ink); }
.keys { list-style: none; display: flex; flex-wrap: wrap; gap: .2rem 1.2rem;
  margin: .4rem 0 0; padding: 0; font-size: .9rem; }
.key::before { content: ""; display: inline-block; width: 1.1rem; height: 0;
  border-top: 3px solid var(--tone); margin-right: .45rem;
  vertical-align: middle; }
.key.dots::before { border-top-style: dotted; }
.pair { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fit, minmax(300px, 1fr)); }
figure { margin: 0; }
figcaption { font-size: .85rem; line-height: 1.4; margin-top: .35rem;
  overflow-wrap: anywhere; }
figcaption b { color: var(--ink); }
.sample { display: flex; flex-wrap: wrap; gap: 1rem 1.4rem;
  align-items: flex-start; }
.sample .images { display: flex; gap: 4px; }
.sample img { display: block; width: 92px; height: auto;
  image-rendering: pixelated; border-radius: 4px; background: var(--rule); }
.sample .original { width: 92px; } .sample .attempt { width: 188px; }
pre { background: var(--page); border: 1px solid var(--rule);
  border-radius: 8px; padding: .8rem 1rem; overflow-x: auto; margin: .6rem 0;
  font: .85rem/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas,
  "DejaVu Sans Mono", monospace; }
summary { cursor: pointer; }
:focus-visible { outline: 3px solid var(--link); outline-offset: 2px; }
footer { margin-top: 2.6rem; border-top: 1px solid var(--rule);
  padding-top: .9rem; color: var(--soft); font-size: .88rem; }
@media (max-width: 560px) {
  main { padding: 1.4rem .8rem 2rem; } h1 { font-size: 1.45rem; }
  .card { padding: .8rem; } td.chart, th.chart { display: none; }
  th, td { padding: .4rem .5rem; font-size: .92rem; }
  td .range-text { display: block; margin: 0; }
  .finding dl, .facts { grid-template-columns: 1fr; gap: 0; }
  .facts dd { margin-bottom: .4rem; }
  svg.plot text { font-size: 20px; } .sample { gap: .9rem; }
  .tiles { grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); }
  .tile { padding: .7rem .8rem; } .tile b { font-size: 1.7rem; }
  .sample img, .sample .original { width: 72px; }
  .sample .attempt { width: 148px; }
}
@media print {
  body { background: #fff; font-size: 9.5pt; }
  main { max-width: none; padding: 0; }
  h2 { margin-top: 1.4rem; }
  .card, .tile, .finding, figure, tr { break-inside: avoid; }
  .card.scroll { break-inside: auto; overflow: visible; padding: .2rem .6rem; }
  th, td { padding: .22rem .4rem; } td.chart { width: 16%; min-width: 60px; }
  thead th { white-space: normal; }
  h2, h3, section > p { break-after: avoid; } p { break-inside: avoid; }
  pre { white-space: pre-wrap; }
  .sample { gap: .6rem; padding: .5rem .7rem; margin: .4rem 0; }
  .sample img, .sample .original { width: 58px; }
  .sample .attempt { width: 120px; } figcaption { font-size: 7.5pt; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""

CSS = (
    f":root {{ color-scheme: light dark; {_LIGHT} }}\n"
    f"@media screen and (prefers-color-scheme: dark) {{ :root {{ {_DARK} }} }}"
    f"\n{_RULES}"
)
