"use strict";
// Drawings on a canvas: the scatter of all features, one feature's distribution, a cell map.

const plots = (() => {
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const EDGE = { left: 90, right: 20, top: 20, bottom: 60 };

  // density: (0, 1] on a logarithmic axis from its smallest value; modality: [0, 1].
  const places = (canvas, density) => {
    const low = Math.log10(density.reduce((a, d) => (d > 0 && d < a ? d : a), 1));
    const span = low < 0 ? -low : 1;
    const width = canvas.width - EDGE.left - EDGE.right;
    const height = canvas.height - EDGE.top - EDGE.bottom;
    return {
      low,
      x: (m) => EDGE.left + m * width,
      y: (d) => EDGE.top + (-Math.log10(d) / span) * height,
    };
  };

  const scatter = (canvas, density, modality) => {
    const at = places(canvas, density);
    const pen = canvas.getContext("2d");
    pen.clearRect(0, 0, canvas.width, canvas.height);
    pen.font = "20px system-ui, sans-serif";
    pen.fillStyle = colour("--soft");
    pen.strokeStyle = colour("--rule");
    pen.textAlign = "right";
    for (let power = 0; power >= Math.ceil(at.low); power -= 1) {
      const y = at.y(10 ** power);
      pen.beginPath(); pen.moveTo(EDGE.left, y); pen.lineTo(canvas.width - EDGE.right, y); pen.stroke();
      pen.fillText(`${100 * 10 ** power} %`, EDGE.left - 10, y + 7);
    }
    pen.textAlign = "center";
    for (const m of [0, 0.25, 0.5, 0.75, 1]) pen.fillText(m, at.x(m), canvas.height - 32);
    pen.fillText("modality: 0 = texts only, 1 = images only", canvas.width / 2, canvas.height - 6);
    pen.fillStyle = colour("--mark");
    pen.globalAlpha = density.length > 20000 ? 0.15 : 0.35;
    density.forEach((d, i) => { if (d > 0) pen.fillRect(at.x(modality[i]) - 2, at.y(d) - 2, 4, 4); });
    pen.globalAlpha = 1;
  };

  // The live feature whose point is nearest to the mouse, or -1 beyond 12 pixels.
  const nearest = (canvas, event, density, modality) => {
    const box = canvas.getBoundingClientRect();
    const x = (event.clientX - box.left) * canvas.width / box.width;
    const y = (event.clientY - box.top) * canvas.height / box.height;
    const at = places(canvas, density);
    let best = -1, least = 144;
    density.forEach((d, i) => {
      if (d <= 0) return;
      const away = (at.x(modality[i]) - x) ** 2 + (at.y(d) - y) ** 2;
      if (away < least) { least = away; best = i; }
    });
    return best;
  };

  // quantiles: [[share, activation], ...]. A bar's area is its share of the activations.
  const distribution = (canvas, quantiles) => {
    const pen = canvas.getContext("2d");
    const top = quantiles[quantiles.length - 1][1];
    const bars = [];
    for (let i = 1; i < quantiles.length; i += 1) {
      const [before, left] = quantiles[i - 1], [share, right] = quantiles[i];
      if (right > left) bars.push({ left, right, height: (share - before) / (right - left) });
    }
    const highest = Math.max(...bars.map((bar) => bar.height));
    const x = (v) => 10 + (v / top) * (canvas.width - 20);
    pen.fillStyle = colour("--mark");
    for (const bar of bars) {
      const height = (bar.height / highest) * (canvas.height - 40);
      pen.fillRect(x(bar.left), canvas.height - 30 - height, Math.max(x(bar.right) - x(bar.left) - 1, 1), height);
    }
    pen.fillStyle = colour("--soft");
    pen.font = "14px system-ui, sans-serif";
    pen.textAlign = "left"; pen.fillText("0", 10, canvas.height - 10);
    pen.textAlign = "right"; pen.fillText(String(top), canvas.width - 10, canvas.height - 10);
  };

  // cells: 0..99 in reading order, laid over the picture; nothing where a model keeps no cells.
  const map = (canvas, picture, cells, grid) => {
    canvas.width = picture.naturalWidth; canvas.height = picture.naturalHeight;
    const pen = canvas.getContext("2d");
    pen.drawImage(picture, 0, 0);
    const wide = canvas.width / grid[1], high = canvas.height / grid[0];
    cells.forEach((level, i) => {
      pen.fillStyle = `rgb(252 165 10 / ${(0.65 * level) / 99})`;
      pen.fillRect((i % grid[1]) * wide, Math.floor(i / grid[1]) * high, wide, high);
    });
  };

  // levels: 0..99 in reading order, one pixel a cell; CSS makes them large.
  const cells = (canvas, levels, grid) => {
    canvas.width = grid[1]; canvas.height = grid[0];
    const pen = canvas.getContext("2d");
    levels.forEach((level, i) => {
      pen.fillStyle = `rgb(252 165 10 / ${level / 99})`;
      pen.fillRect(i % grid[1], Math.floor(i / grid[1]), 1, 1);
    });
  };

  return { scatter, nearest, distribution, map, cells };
})();
