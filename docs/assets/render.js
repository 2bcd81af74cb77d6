document.addEventListener("DOMContentLoaded", () => {
  const delimiters = [
    { left: "\\(", right: "\\)", display: false },
    { left: "\\[", right: "\\]", display: true },
  ];
  document.querySelectorAll(".arithmatex").forEach((element) => renderMathInElement(element, { delimiters }));
});
