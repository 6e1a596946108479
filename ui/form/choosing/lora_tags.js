// LoRA tags in a prompt: <lora:name:0.8>, or without a weight, which is then 1.
const LoraTags = {
  all(text) {
    const found = text.matchAll(/<\s*(?:lora|lyco|lycoris|locon)\s*:\s*([^<>:\n]*[^<>:\s])\s*(?::\s*([^<>:\n]*))?(?::[^<>\n]*)?>/gi);
    return [...found].map(([tag, name, weight]) => ({ tag, name, weight: weight?.trim() ? Number(weight) : 1 }));
  },
  find(text, name) { return LoraTags.all(text).find((one) => one.name.toLowerCase() === name.toLowerCase()); },
  // The prompt with this LoRA at another weight.
  weigh(text, name, weight) {
    const found = LoraTags.find(text, name);
    return found ? text.replace(found.tag, () => `<lora:${name}:${weight}>`) : text;
  },
  // The prompt with this LoRA, and its first trigger word unless the prompt has it.
  add(text, name, words) {
    if (LoraTags.find(text, name)) return text;
    const [word] = words;
    const more = word && !text.toLowerCase().includes(word.toLowerCase()) ? `, ${word}` : '';
    return `${text.trimEnd()}${more} <lora:${name}:1>`.replace(/^[,\s]+/, '');
  },
  remove(text, name) {
    const found = LoraTags.find(text, name);
    return found ? text.replace(found.tag, '').replace(/ {2,}/g, ' ').trim() : text;
  },
};
