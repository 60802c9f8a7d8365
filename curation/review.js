"use strict";
const read = name => { const e = document.getElementById("data-" + name); return e ? JSON.parse(e.textContent) : null; };
const thumbnails = read("thumbnails");
const picture = (image, place) => { image.src = "data:image/webp;base64," + thumbnails[place]; };
for (const image of document.querySelectorAll("img[data-t]")) picture(image, image.dataset.t);
for (const button of document.querySelectorAll("nav button"))
  button.addEventListener("click", () => document.getElementById(button.dataset.to).scrollIntoView());

const make = (tag, className, text) => {
  const e = document.createElement(tag);
  if (className) e.className = className;
  if (text !== undefined) e.textContent = text;
  return e;
};
const count = n => n.toLocaleString("en");

function browse(tree) {
  const children = tree.nodes.map(() => []);
  tree.nodes.forEach((node, i) => { if (node.parent >= 0) children[node.parent].push(i); });
  for (const list of children) list.sort((a, b) => tree.nodes[b].size - tree.nodes[a].size || a - b);
  const crumbs = document.getElementById("crumbs"), here = document.getElementById("here");

  const tiles = (title, shown) => {
    const found = shown.filter(([place]) => place >= 0);
    if (!found.length) return;
    here.append(make("h3", "", title));
    const row = make("div", "tiles");
    for (const [place, caption, dropped] of found) {
      const figure = make("figure", dropped ? "dropped" : ""), image = make("img");
      picture(image, place);
      image.alt = figure.title = caption;
      figure.append(image, make("figcaption", "", caption));
      row.append(figure);
    }
    here.append(row);
  };
  const stack = (node, most) => {
    const bar = make("div", "stack"), before = make("i", "s0"), after = make("i", "s1");
    before.style.width = 100 * node.size / most + "%";
    after.style.width = 100 * node.train / most + "%";
    bar.append(before, after);
    return bar;
  };
  const told = node => count(node.size) + " images, " + count(node.train) + " train (" +
    (100 * node.train / node.size).toFixed(0) + " %), " + count(node.holdout) + " held out";

  const show = i => {
    crumbs.replaceChildren();
    here.replaceChildren();
    for (let at = i; at >= 0; at = tree.nodes[at].parent) {
      const link = make("button", "", tree.nodes[at].name);
      link.addEventListener("click", () => show(at));
      crumbs.prepend(link);
    }
    const node = tree.nodes[i];
    here.append(make("p", "", told(node) + (node.cosine ? "; mean cosine to the centroid " + node.cosine.toFixed(2) : "")));
    tiles("Nearest the centroid", node.near);
    tiles("Outliers", node.far);
    const below = children[i];
    if (!below.length && !node.hidden) return;
    here.append(make("h3", "", count(below.length + node.hidden) + " clusters inside, largest first"));
    const most = Math.max(...below.map(c => tree.nodes[c].size));
    for (const c of below) {
      const child = tree.nodes[c], row = make("button", "child"), what = make("div", "what"), some = make("div", "some");
      what.append(make("div", "", child.name + ": " + told(child)), stack(child, most));
      for (const [place, caption] of child.near.filter(([place]) => place >= 0).slice(0, 3)) {
        const image = make("img");
        picture(image, place);
        image.alt = caption;
        some.append(image);
      }
      row.append(some, what);
      row.addEventListener("click", () => show(c));
      here.append(row);
    }
    if (node.hidden) here.append(make("p", "", count(node.hidden) + " smaller clusters are not on this page; clusters.csv lists all."));
  };
  show(0);
}
const tree = read("tree");
if (tree) browse(tree);
