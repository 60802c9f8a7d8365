const box = document.getElementById("filter"), found = document.getElementById("found");
box.addEventListener("input", () => {
  const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const section of document.querySelectorAll("details")) {
    const heading = section.querySelector("summary").textContent.toLowerCase();
    let here = 0;
    for (const figure of section.querySelectorAll("figure")) {
      const text = heading + " " + figure.title.toLowerCase();
      const hit = words.every(word => text.includes(word));
      figure.hidden = !hit;
      here += hit;
    }
    section.hidden = words.length > 0 && here === 0;
    if (words.length && here) section.open = true;
    shown += here;
  }
  found.textContent = words.length ? shown + " pictures" : "";
});
