"use strict";

// Chromium makes every root as wide as the widest radical of the font would need; take the empty part away.
document.fonts.ready.then(() => {
  for (const root of [...document.querySelectorAll("msqrt, mroot")].reverse()) {
    const inside = root.localName === "mroot" ? root.firstElementChild : root.lastElementChild;
    const gap = root.getBoundingClientRect().right - inside.getBoundingClientRect().right;
    const size = parseFloat(getComputedStyle(root).fontSize);
    if (gap > 0.1 * size) root.style.marginInlineEnd = `${-gap / size}em`;
  }
});

// A copy button on every code cell.
for (const block of document.querySelectorAll(".code")) {
  const button = document.createElement("button");
  button.className = "copy";
  button.textContent = "Copy";
  button.addEventListener("click", async () => {
    const text = block.querySelector("pre").innerText;
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // Pages opened from the disk may not use the clipboard directly.
      const area = document.createElement("textarea");
      area.value = text;
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
  block.append(button);
}

// Some 180 letters of `text` around the first place of `word`, cut between words.
function around(text, word) {
  const place = Math.max(0, text.toLowerCase().indexOf(word));
  const start = place > 60 ? text.indexOf(" ", place - 60) + 1 : 0;
  const end = text.length > start + 180 ? text.lastIndexOf(" ", start + 180) : text.length;
  return (start ? "… " : "") + text.slice(start, end) + (end < text.length ? " …" : "");
}

// Search on the index: every word has to occur; hits in a heading come first.
const field = document.getElementById("search");
if (field) {
  const list = document.getElementById("hits");
  const parts = document.querySelectorAll(".part");
  field.addEventListener("input", () => {
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    list.hidden = words.length === 0;
    for (const part of parts) part.hidden = words.length > 0;
    list.replaceChildren();
    if (!words.length) return;
    const hits = [];
    for (const entry of COURSE) {
      const heading = entry.heading.toLowerCase();
      if (!words.every((word) => `${heading} ${entry.text.toLowerCase()}`.includes(word))) continue;
      hits.push([words.filter((word) => heading.includes(word)).length, entry]);
    }
    hits.sort((a, b) => b[0] - a[0]);
    for (const [, entry] of hits.slice(0, 20)) {
      const item = document.createElement("li");
      const link = document.createElement("a");
      link.href = entry.url;
      link.textContent = entry.heading && !entry.title.endsWith(entry.heading)
        ? `${entry.title}: ${entry.heading}` : entry.title;
      const excerpt = document.createElement("p");
      excerpt.textContent = around(entry.text, words[0]);
      item.append(link, excerpt);
      list.append(item);
    }
    if (!hits.length) {
      const item = document.createElement("li");
      item.textContent = "Nothing found.";
      list.append(item);
    }
  });
}
