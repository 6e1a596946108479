// A small tree: a column a generation, a line from each picture to what came from it.
class Family {
  // source: the address of a member's picture; untitled: what one without a prompt is called.
  constructor(box, open, source, untitled) {
    this.box = box;
    this.open = open;
    this.source = source;
    this.untitled = untitled;
  }

  show({ members, links }, current) {
    const [side, across, down] = [64, 104, 76];
    const depths = [...new Set(members.map((one) => one.depth))].toSorted((a, b) => a - b);
    const rows = new Map();
    const places = new Map();
    for (const one of members) {
      const row = rows.get(one.depth) || 0;
      rows.set(one.depth, row + 1);
      places.set(one.id, [depths.indexOf(one.depth) * across, row * down]);
    }
    const [width, height] = [depths.length * across - across + side, Math.max(0, ...rows.values()) * down - down + side];
    const tree = document.createElement('div');
    tree.style.cssText = `width: ${width}px; height: ${height}px`;
    tree.append(this.lines(links, places, side, width, height), ...members.map((one) => this.member(one, places.get(one.id), links, current)));
    this.box.replaceChildren(tree);
  }

  lines(links, places, side, width, height) {
    const drawing = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
    drawing.setAttribute('width', width);
    drawing.setAttribute('height', height);
    drawing.setAttribute('aria-hidden', 'true');
    for (const [parent, child] of links) {
      if (!places.has(parent) || !places.has(child)) continue;
      const [[x, y], [to, at]] = [places.get(parent), places.get(child)];
      const path = document.createElementNS('http://www.w3.org/2000/svg', 'path');
      const [from, middle] = [x + side, (x + side + to) / 2];
      path.setAttribute('d', `M${from} ${y + side / 2} C${middle} ${y + side / 2} ${middle} ${at + side / 2} ${to} ${at + side / 2}`);
      drawing.append(path);
    }
    return drawing;
  }

  member(one, [x, y], links, current) {
    const button = document.createElement('button');
    const how = links.filter(([, child]) => child === one.id).map((link) => link[2]);
    button.type = 'button';
    button.style.cssText = `left: ${x}px; top: ${y}px`;
    button.title = [one.title || this.untitled, how[0] && `${how[0]} the picture to its left`].filter(Boolean).join(', ');
    button.setAttribute('aria-label', button.title);
    if (one.id === current) button.setAttribute('aria-current', 'true');
    if (one.picture) {
      const image = document.createElement('img');
      image.src = this.source(one);
      image.alt = '';
      button.append(image);
    }
    button.addEventListener('click', () => { if (one.id !== current) this.open(one.id); });
    return button;
  }
}
