// Opens the drawer in which a control stands, and moves the focus there; what is in a closed drawer is built when it opens.
function openControl(desk, id, drawer = 'settings') {
  const head = desk.querySelector(`.drawer:is([id="${drawer}"], [id="image-${drawer}"]) > button`);
  if (!head) return;
  if (!head.classList.contains('open')) head.click();
  const find = (left) => {
    const fields = [...desk.querySelectorAll(`:is([id="${id}"], [id="image-${id}"]) :is(input, textarea, button)`)];
    const free = fields.filter((one) => one.offsetParent && !one.disabled);
    const field = free.find((one) => one.getAttribute('aria-pressed') === 'true') || free[0];
    if (field) { field.scrollIntoView({ block: 'center' }); field.focus({ preventScroll: true }); }
    else if (left) setTimeout(() => find(left - 1), 50);
  };
  find(40);
}
