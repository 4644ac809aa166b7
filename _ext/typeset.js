// Read by formulas.py into V8, after MathJax: TeX in, a picture and its words out.
const { adaptors, core, handlers, input, mathjax, output } = MathJax._;
const adaptor = adaptors.liteAdaptor.liteAdaptor();
handlers.html_ts.RegisterHTMLHandler(adaptor);
const page = mathjax.mathjax.document("", {
  InputJax: new input.tex_ts.TeX({ packages: ["base", "ams", "color"] }),
  OutputJax: new output.svg_ts.SVG({
    font: new output.svg.fonts.tex_ts.TeXFont(),
    fontCache: "local",
  }),
});
const words = new core.MmlTree.SerializedMmlVisitor.SerializedMmlVisitor();
const SIZES = { em: 16, ex: 8, containerWidth: 1e6 };

// Names that a page does not need, and groups that group nothing, are most of the weight.
function lighten(node) {
  for (const name of Object.keys(node.attributes ?? {})) {
    if (/^(data-.*|class)$/.test(name)) delete node.attributes[name];
  }
  for (const child of [...(node.children ?? [])]) lighten(child);
  const inner = node.children ?? [];
  const bare = Object.keys(node.attributes ?? {}).length === 0;
  if (node.kind === "g" && node.parent && bare) {
    for (const child of [...inner]) adaptor.insert(child, node);
    adaptor.remove(node);
  } else if (node.kind === "g" && inner.length === 1 && inner[0].kind === "use") {
    if (inner[0].attributes.transform) return;
    Object.assign(inner[0].attributes, node.attributes);
    adaptor.replace(inner[0], node);
  }
}

function typeset(tex, display) {
  const svg = adaptor.firstChild(page.convert(tex, { display, ...SIZES }));
  lighten(svg);
  const end = core.MathItem.STATE.CONVERT;
  const mml = words.visitTree(page.convert(tex, { display, end }));
  return JSON.stringify([adaptor.outerHTML(svg), mml]);
}
