"""The frame of a report: head, style sheet and the places of title, subtitle and body."""

import string

PAGE = string.Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>$title</title>
<style>
:root { color-scheme: light;
        --ink: #1f2733; --muted: #5b6675; --line: #e3e7ee; --paper: #ffffff; --ground: #f5f7fa;
        --accent: #2f6bd0; --right: #1c7f57; --wrong: #b8432f; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink); line-height: 1.55;
       font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1360px; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .3rem; letter-spacing: -.01em; }
.subtitle { color: var(--muted); margin: 0 0 2rem; }
section { background: var(--paper); border: 1px solid var(--line); border-radius: 12px;
          padding: 1.4rem 1.6rem 1.6rem; margin: 0 0 1.4rem; }
h2 { font-size: 1.2rem; margin: 0 0 .8rem; }
p { max-width: 48rem; margin: 0 0 .9rem; }
nav { display: flex; flex-wrap: wrap; gap: .3rem 1.1rem; margin: 0 0 1.6rem; font-size: .9rem; }
a { color: var(--accent); text-decoration: none; }
a:hover { text-decoration: underline; }
.notes { background: #fff8e8; border: 1px solid #f0dfb4; border-radius: 8px; padding: .7rem 1rem .7rem 2rem;
         margin: 0 0 1rem; font-size: .9rem; }
h3 { font-size: 1rem; margin: 1.6rem 0 .5rem; }
h3:first-of-type { margin-top: 0; }
details { margin-top: 1rem; }
details + details { margin-top: .2rem; }
summary { cursor: pointer; color: var(--accent); font-size: .9rem; margin-bottom: .6rem; }
td small, th small { display: block; color: var(--muted); font-weight: 400; font-size: .78rem; white-space: normal;
                     min-width: 6.4rem; }
.muted { color: var(--muted); }
/* A table that is wider than the page scrolls under its first column; a shadow says on which side more is hidden. */
.wide { overflow-x: auto; background: linear-gradient(to right, var(--paper) 30%, transparent) left,
        linear-gradient(to left, var(--paper) 30%, transparent) right,
        linear-gradient(to right, #1f27332e, transparent) left, linear-gradient(to left, #1f27332e, transparent) right;
        background-repeat: no-repeat; background-size: 2.5rem 100%, 2.5rem 100%, .8rem 100%, .8rem 100%;
        background-attachment: local, local, scroll, scroll; }
th:first-child, td:first-child { position: sticky; left: 0; z-index: 1; background: var(--paper); }
.wide + .figures, .caption + .figures, .figures + .figures, .figures + p { margin-top: 1.6rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .95rem; }
.caption { max-width: none; color: var(--muted); font-size: .85rem; margin-top: .7rem; }
th, td { padding: .5rem .5rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { color: var(--muted); font-weight: 600; font-size: .8rem; white-space: normal; vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
td:first-child { font-weight: 600; }
tbody tr:last-child td { border-bottom: 0; }
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 26rem), 1fr)); gap: 1.6rem 2rem; }
.figures.one { grid-template-columns: 1fr; }
.figures.one img { max-width: 56rem; }
figure { margin: 0; }
figure img { width: 100%; max-width: 40rem; height: auto; display: block; }
.figures.one figure { overflow-x: auto; }
.figures.one img { min-width: 40rem; }
figcaption { position: sticky; left: 0; color: var(--muted); font-size: .85rem; margin-top: .4rem; }
.samples { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 19rem), 1fr)); gap: 1rem; }
article { border: 1px solid var(--line); border-left: 4px solid var(--wrong); border-radius: 8px; padding: .8rem 1rem;
          min-width: 0; }
article.right { border-left-color: var(--right); }
article header { display: flex; flex-wrap: wrap; gap: .25rem .9rem; font-size: .85rem; color: var(--muted);
                 margin-bottom: .5rem; }
article header b { color: var(--ink); }
article .verdict { font-weight: 600; color: var(--wrong); }
article.right .verdict { color: var(--right); }
pre { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; max-height: 24rem; overflow-y: auto;
      font: .85rem/1.5 ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; }
pre.prompt { color: var(--accent); margin-bottom: .4rem; }
.thought { color: var(--muted); }
@media (max-width: 40rem) {
  main { padding: 1.25rem .6rem 2.5rem; }
  section { padding: 1rem .9rem 1.1rem; }
  th:first-child, td:first-child { white-space: normal; max-width: 8.5rem; }
  th, td { padding: .45rem .5rem; }
}
@page { size: A4 landscape; margin: 12mm; }
@media print {
  body { background: none; font-size: 10pt; }
  main { max-width: none; padding: 0; }
  nav { display: none; }
  section { border: 0; padding: 0; }
  h2, h3 { break-after: avoid; }
  .wide { overflow: visible; background: none; }
  table { font-size: .75rem; }
  th, td { padding: .25rem .35rem; white-space: normal; }
  td small, th small { min-width: 0; }
  tr, figure, article { break-inside: avoid; }
  .figures { grid-template-columns: 1fr 1fr; gap: 1rem 1.5rem; }
  .figures.one figure { overflow: visible; }
  .figures.one img { min-width: 0; max-width: 100%; max-height: 150mm; width: auto; }
  pre { max-height: none; }
}
</style>
</head>
<body>
<main>
<h1>$title</h1>
<p class="subtitle">$subtitle</p>
$body
</main>
</body>
</html>
""")
