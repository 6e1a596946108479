// The teacher's sheet: every question with its answers, as a page of its own to print or save.
const SHEET_STYLE = 'body{font:16px/1.5 system-ui,sans-serif;max-width:46em;margin:2em auto;padding:0 1em;color:#1b1b1f}'
  + 'h1{font-size:28px}h2{font-size:16px;margin:1.6em 0 .3em}p,ol{margin:.3em 0}li.right{font-weight:700}'
  + 'section{break-inside:avoid}.why{color:#55555c}';

function teachersSheet(chapters) {
  const page = document.implementation.createHTMLDocument('Teacher\u2019s sheet: how diffusion models draw');
  const make = (tag, text, kind) => {
    const found = page.createElement(tag);
    found.textContent = text;
    if (kind) found.className = kind;
    return found;
  };
  page.documentElement.lang = 'en';
  const letters = page.createElement('meta');
  letters.setAttribute('charset', 'utf-8');
  page.head.prepend(letters);
  page.head.append(make('style', SHEET_STYLE));
  page.body.append(make('h1', page.title), make('p', 'The right answers are in bold type.'));
  chapters.forEach((chapter, i) => {
    const section = page.createElement('section');
    const list = page.createElement('ol');
    list.type = 'A';
    chapter.answers.forEach((text, k) => list.append(make('li', text, k === chapter.right ? 'right' : '')));
    section.append(make('h2', `${i + 1}. ${chapter.title}`), ...chapter.text.map((text) => make('p', text)), make('p', chapter.question, 'asked'), list, make('p', chapter.why, 'why'));
    page.body.append(section);
  });
  return `<!doctype html>\n${page.documentElement.outerHTML}`;
}

function saveSheet(chapters) {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([teachersSheet(chapters)], { type: 'text/html' }));
  link.download = 'teachers-sheet.html';
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}
