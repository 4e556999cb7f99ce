"use strict";
(() => {
  const figure = document.getElementById("heat");
  if (!figure || !window.DecompressionStream) return;
  const images = [...figure.querySelectorAll(".cells")], told = document.getElementById("read"), tip = document.getElementById("tip");
  const {low, high, peak, per, last} = Object.fromEntries(Object.entries(figure.dataset).map(([key, value]) => [key, Number(value)]));
  const steps = figure.dataset.steps.split(",").map(Number), pictures = new Map();
  // A picture's rows are not filtered: behind zlib each is a zero and one byte for each cell.
  const cells = async image => {
    if (!pictures.has(image)) {
      const png = Uint8Array.from(atob(image.getAttribute("href").split(",")[1]), letter => letter.charCodeAt(0));
      const view = new DataView(png.buffer), parts = [];
      for (let at = 8; at < png.length; at += 12 + view.getUint32(at))
        if (view.getUint32(at + 4) === 0x49444154) parts.push(png.subarray(at + 8, at + 8 + view.getUint32(at)));
      const raw = new Blob(parts).stream().pipeThrough(new DecompressionStream("deflate"));
      pictures.set(image, new Uint8Array(await new Response(raw).arrayBuffer()));
    }
    return pictures.get(image);
  };
  const time = value => {
    const [unit, scale] = [["s", 1], ["ms", 1e-3], ["µs", 1e-6]].find(([, scale]) => value >= scale) || ["ns", 1e-9];
    const number = value / scale;
    return number.toFixed(number >= 100 ? 0 : number >= 10 ? 1 : 2) + " " + unit;
  };
  const rows = image => image.dataset.rows.split(",");
  const cross = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  cross.setAttribute("class", "cross");
  const say = async (image, row, column) => {
    const strength = (await cells(image))[row * (steps.length + 1) + 1 + column], names = rows(image), name = names[row];
    const first = steps[column], end = Math.min(last, column + 1 < steps.length ? steps[column + 1] - 1 : last);
    const seconds = low * Math.pow(high / low, (strength - 1) / 254);
    const late = !strength ? "on time" : strength === 255 && peak > 1.01 * high ? "at least " + time(high) + " later than the median of the others"
      : time(seconds) + " later than the median of the others";
    const [x, y, width, height] = ["x", "y", "width", "height"].map(key => Number(image.getAttribute(key)));
    const cell = {x: x + width * column / steps.length, y: y + height * row / names.length, width: width / steps.length, height: height / names.length};
    for (const [key, value] of Object.entries(cell)) cross.setAttribute(key, value);
    figure.append(cross);
    const text = (name.includes("-") ? "ranks " : "rank ") + name + ", " + (per > 1 ? "steps " + first + "-" + end : "step " + first) + ": " + late;
    if (told.textContent !== text) told.textContent = text;
    return text;
  };
  const clamp = (value, most) => Math.max(0, Math.min(most, value));
  let image = 0, row = 0, column = 0;
  for (const [number, one] of images.entries()) {
    one.addEventListener("mousemove", async event => {
      const box = one.getBoundingClientRect();
      image = number;
      row = clamp(Math.floor((event.clientY - box.top) / box.height * rows(one).length), rows(one).length - 1);
      column = clamp(Math.floor((event.clientX - box.left) / box.width * steps.length), steps.length - 1);
      tip.textContent = await say(one, row, column);
      tip.style.left = clamp(event.clientX + 14, innerWidth - tip.offsetWidth - 6) + "px";
      tip.style.top = clamp(event.clientY + 16, innerHeight - tip.offsetHeight - 6) + "px";
      tip.style.visibility = "visible";
    });
    one.addEventListener("mouseleave", () => { tip.style.visibility = "hidden"; });
  }
  figure.addEventListener("keydown", event => {
    const move = {ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0], Home: [0, -1e9], End: [0, 1e9]}[event.key];
    if (!move) return;
    event.preventDefault();
    row += move[0];
    if (row < 0 && image > 0) row = rows(images[--image]).length - 1;
    else if (row >= rows(images[image]).length && image + 1 < images.length) { image++; row = 0; }
    row = clamp(row, rows(images[image]).length - 1);
    column = clamp(column + move[1], steps.length - 1);
    say(images[image], row, column);
  });
  addEventListener("beforeprint", () => document.querySelectorAll("details").forEach(each => { each.open = true; }));
})();
