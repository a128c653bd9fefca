// Renders the page's formulas with the KaTeX that is bundled with the site: nothing is fetched from elsewhere.
document$.subscribe(() => {
  renderMathInElement(document.body, {
    delimiters: [
      { left: "\\(", right: "\\)", display: false },
      { left: "\\[", right: "\\]", display: true },
    ],
  });
});
