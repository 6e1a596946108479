// Drawing ways through latent space in two directions, for the map of a run and that of a comparison.
// Units of the drawing: its longer side, its margin, and sides of the pictures at the ends.
const LONG = 1000;
const MARGIN = 60;
const END = { own: 84, lane: 72, relative: 64, seed: 44 };

const Ways = {
  shape(tag, facts, kind) {
    const found = document.createElementNS('http://www.w3.org/2000/svg', tag);
    for (const [name, value] of Object.entries(facts)) found.setAttribute(name, value);
    if (kind) found.setAttribute('class', kind);
    return found;
  },

  // From points to places in the drawing; one scale for both directions, so that distances look as they are.
  projection(svg, ways) {
    const points = ways.flatMap(({ x_t, x0 }) => [...x_t, ...x0]);
    const [xs, ys] = [0, 1].map((axis) => points.map((one) => one[axis]));
    const [left, right, low, high] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
    const [wide, tall] = [right - left || 1, high - low || 1];
    const scale = LONG / Math.max(wide, tall);
    const least = LONG * 0.5;
    const [width, height] = [wide, tall].map((side) => Math.max(side * scale, least) + 2 * MARGIN);
    svg.setAttribute('viewBox', `0 0 ${width} ${height}`);
    const [across, up] = [(width - wide * scale) / 2, (height - tall * scale) / 2];
    return ([x, y]) => [across + (x - left) * scale, height - up - (y - low) * scale];
  },

  // The same ways some steps later: each direction points to where it pointed before.
  steady(before, ways) {
    const sides = [0, 1].map((axis) => {
      let agree = 0;
      for (const way of ways) {
        const old = before?.find(({ kind, name }) => kind === way.kind && name === way.name)?.x_t || [];
        way.x_t.slice(0, old.length).forEach((one, i) => { agree += one[axis] * old[i][axis]; });
      }
      return agree < 0 ? -1 : 1;
    });
    return Ways.moved(ways, (one) => one.map((n, axis) => n * sides[axis]));
  },

  moved(ways, to) {
    return ways.map((way) => Object.assign({}, way, { x_t: way.x_t.map(to), x0: way.x0.map(to) }));
  },

  path(points, kind) {
    return Ways.shape('polyline', { points: points.map((one) => one.map((n) => n.toFixed(1)).join()).join(' ') }, kind);
  },

  ending({ kind, name, picture }, [x, y]) {
    if (!picture) return Ways.shape('circle', { cx: x, cy: y, r: 8 }, `end ${kind}`);
    const side = END[kind];
    const group = Ways.shape('g', {}, `end ${kind}`);
    group.append(
      Ways.shape('image', { href: picture, x: x - side / 2, y: y - side / 2, width: side, height: side }),
      Ways.shape('rect', { x: x - side / 2, y: y - side / 2, width: side, height: side, rx: 4 }),
    );
    const title = Ways.shape('title', {});
    title.textContent = name;
    group.append(title);
    return group;
  },

  // A way from the colour of noise to the colour of pictures, by the noise's share at each of its points.
  coloured(points, noise) {
    return points.slice(1).map((to, i) => {
      const from = points[i];
      const line = Ways.shape('line', { x1: from[0], y1: from[1], x2: to[0], y2: to[1] }, 'own');
      line.style.setProperty('--share', `${Math.round(50 * (2 - noise[i] - noise[i + 1]))}%`);
      return line;
    });
  },
};
