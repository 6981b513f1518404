// Makes golden.json: small tokenizer.json files that between them use every
// component this package reads, and what the Hugging Face implementation says
// about a list of texts. To make it again, in a directory with the npm package
// tokenizers 0.23.2 installed:
//
//	node golden.mjs golden.json
import { createRequire } from 'node:module'
import { writeFileSync } from 'node:fs'
const { Tokenizer } = createRequire(process.cwd() + '/')('tokenizers')

const texts = [
  '', ' ', '  ', 'hello', 'Hello World', ' hello  world ', 'hello\nworld\n\n\tthe end',
  "it's we'LL don't I'm they've", 'unaffable, playing! (the) games?', 'the-best_of 3.14 12345 x1y2',
  'héllo Ñandú café cafe\u0301 ÅÇ', 'ﬁne ① Ⅷ ½ ２ﾃ', 'İstanbul ẞ ΣΑΣ', '日本語 中文 テキスト。', 'a\u00a0b\u3000c\u2028d\u200be',
  '\u0000a\u0007b\ufffdc\u00adé', '👩‍👩‍👧 🇩🇪 ok', 'lower<eos>case <eos> end<eos>', '<s>the</s> <unk>', 'x<mask> y  <mask>  z<mask>',
  'word wordy a word.', '▁the ▁▁ cat', '<0x41>', 'a####b ##ing', 'ab'.repeat(40), ' '.repeat(20) + 'x', '!!!???...', '$5 + 3 = 8 ~^`|',
  'don t do not n\'t', 'tab\there', 'line\r\nline\r\n\r\n  x', 'q'.repeat(120), 'zzz the zzz', 'ſ \'ſ \'S', 'नमस्ते ไทย 한국어 é', 'a <mask> b\n<mask>',
]

let seed = 1
const random = () => (seed = (seed * 48271) % 2147483647) / 2147483647

// The byte-level alphabet.
const alphabet = []
for (let b = 0, extra = 256; b < 256; b++) {
  const printable = (b >= 33 && b <= 126) || (b >= 161 && b !== 173)
  alphabet.push(String.fromCodePoint(printable ? b : extra++))
}
const byteLevel = (s) => [...Buffer.from(s)].map((b) => alphabet[b]).join('')

// bpe learns merges from some words: the plain algorithm.
function bpe(words, start, count) {
  const vocab = [...start], merges = []
  let seqs = words.map((w) => [...w])
  while (merges.length < count) {
    const counts = new Map()
    for (const q of seqs) for (let i = 1; i < q.length; i++) {
      const k = q[i - 1] + ' ' + q[i]
      counts.set(k, (counts.get(k) ?? 0) + 1)
    }
    const best = [...counts].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1))[0]
    if (!best) break
    const [l, r] = best[0].split(' ')
    merges.push([l, r])
    if (!vocab.includes(l + r)) vocab.push(l + r)
    seqs = seqs.map((q) => {
      const out = []
      for (let i = 0; i < q.length; i++) {
        if (q[i] === l && q[i + 1] === r) { out.push(l + r); i++ } else out.push(q[i])
      }
      return out
    })
  }
  return { vocab, merges }
}
const ids = (list) => Object.fromEntries(list.map((t, i) => [t, i]))
const words = texts.join(' ').replaceAll(/<[a-z]*>/g, '').split(/(?= )/)

const added = (id, content, o = {}) =>
  ({ id, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special: true, ...o })

const bytes = bpe(words.map(byteLevel), alphabet, 150)
const byteBPE = (o = {}) => ({
  type: 'BPE', dropout: null, unk_token: null, continuing_subword_prefix: null, end_of_word_suffix: null,
  fuse_unk: false, byte_fallback: false, ignore_merges: false, vocab: ids(bytes.vocab), merges: bytes.merges, ...o,
})
const N = bytes.vocab.length
const eos = added(N, '<eos>')
const byteLevelPre = (use_regex, add_prefix_space = false) => ({ type: 'ByteLevel', add_prefix_space, trim_offsets: true, use_regex })
const split = (pattern, behavior = 'Isolated', invert = false) => ({ type: 'Split', pattern, behavior, invert })
const seq = (name, list) => ({ type: 'Sequence', [name]: list })
const contractions = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
const tail = ' ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+'
const llama3 = `${contractions}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|${tail}`
const qwen2 = `${contractions}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}|${tail}`
const code = '[^\\r\\n\\p{L}\\p{N}_]?[\\p{L}\\p{N}_]+| ?[^\\s\\p{L}\\p{N}_]+(?:[\\r\\n]+[\\t ]*)?|\\s*[\\r\\n]+[\\t ]*|\\s+(?!\\S)|\\s+'
const o200k = '[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+' + contractions + '?|' +
  '[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*' + contractions + '?|' +
  '\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+'
const levelDecoder = { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true }
const file = (o) => ({
  version: '1.0', truncation: null, padding: null, added_tokens: [], normalizer: null, pre_tokenizer: null,
  post_processor: null, decoder: null, ...o,
})
const level = (o) => file({ added_tokens: [eos], decoder: levelDecoder, model: byteBPE(), ...o })

// A SentencePiece-like BPE, as in Llama 2: characters, <0x..> for the rest.
const hex = [...Array(256).keys()].map((b) => `<0x${b.toString(16).toUpperCase().padStart(2, '0')}>`)
const spWords = texts.map((t) => '▁' + t.replaceAll(' ', '▁')).filter((t) => /^[\x21-\x7e▁]*$/.test(t))
const chars = [...new Set(spWords.join(''))].sort()
const sp = bpe(spWords.join('').split(/(?=▁)/), ['<unk>', '<s>', '</s>', ...hex, ...chars], 80)
const spBPE = (o = {}) => ({ ...byteBPE(), vocab: ids(sp.vocab), merges: sp.merges.map((m) => m.join(' ')), unk_token: '<unk>', ...o })
const template = (single, pair, tokens) => ({
  type: 'TemplateProcessing', single, pair,
  special_tokens: Object.fromEntries(Object.entries(tokens).map(([t, id]) => [t, { id: t, ids: [id], tokens: [t] }])),
})
const A = (type_id) => ({ Sequence: { id: 'A', type_id } }), B = (type_id) => ({ Sequence: { id: 'B', type_id } })
const S = (id, type_id) => ({ SpecialToken: { id, type_id } })

// WordPiece.
const wp = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', ...'abcdefghijklmnopqrstuvwxyz0123456789.,!?()-_\'$中é'.split(''),
  ...'abcdefghijklmnopqrstuvwxyz0123456789é'.split('').map((c) => '##' + c), 'the', 'hello', 'world', 'un', '##aff', '##able', 'play', '##ing',
  'game', '##s', 'cafe', 'nandu', 'istanbul', 'don', 'not', 'do', 'n', 'Hello', '日', '本', '語', '##wor', 'word', '##y', '####', 'line', 'ok']
const wpVocab = [...new Set(wp)]
const wordPiece = (o = {}) => ({ type: 'WordPiece', unk_token: '[UNK]', continuing_subword_prefix: '##', max_input_chars_per_word: 100, vocab: ids(wpVocab), ...o })
const bertMarks = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]'].map((t) => added(wpVocab.indexOf(t), t))
const bert = (o = {}) => ({ type: 'BertNormalizer', clean_text: true, handle_chinese_chars: true, strip_accents: null, lowercase: true, ...o })

// Unigram: every short substring of some texts, with a random score.
const pieces = new Map()
for (const w of spWords) {
  const c = [...w]
  for (let i = 0; i < c.length; i++) for (let n = 1; n <= 5 && i + n <= c.length; n++) {
    const p = c.slice(i, i + n).join('')
    if (n === 1 || random() < 0.12) pieces.set(p, n === 1 ? -8 - random() : -(4 + 8 * random()))
  }
}
const uni = [['<unk>', 0], ['<s>', 0], ['</s>', 0], ...[...pieces].slice(0, 260)]
const unigram = (o = {}) => ({ type: 'Unigram', unk_id: 0, vocab: uni, byte_fallback: false, ...o })
const uniBytes = [...uni, ...hex.map((h) => [h, -20])]
const meta = (o = {}) => ({ type: 'Metaspace', replacement: '▁', prepend_scheme: 'always', split: true, ...o })

const wordLevel = (pre, normalizer, o = {}) => {
  // A vocabulary of all words that come up, so that the ids show the cuts.
  const f = file({ normalizer, pre_tokenizer: pre, model: { type: 'WordLevel', vocab: { '[UNK]': 0 }, unk_token: '[UNK]' }, ...o })
  const t = Tokenizer.fromString(JSON.stringify(f))
  const seen = new Set(['[UNK]'])
  for (const s of texts) {
    const n = t.getNormalizer() ? t.getNormalizer().normalizeString(s) : s
    const p = t.getPreTokenizer()
    if (p) for (const [w] of p.preTokenizeString(n)) seen.add(w); else seen.add(n)
  }
  f.model.vocab = ids([...seen].filter((w) => w !== ''))
  return f
}
// charsmap compiles replacements as SentencePiece does: a double array whose
// unit for byte c of a key lies at (place of the node) ^ (its offset) ^ c.
function charsmap(rules) {
  const blob = Buffer.concat(Object.values(rules).map((v) => Buffer.from(v + '\0')))
  const root = { next: new Map() }
  let at = 0
  for (const [key, value] of Object.entries(rules)) {
    let node = root
    for (const c of Buffer.from(key)) {
      if (!node.next.has(c)) node.next.set(c, { next: new Map() })
      node = node.next.get(c)
    }
    node.value = at
    at += Buffer.byteLength(value) + 1
  }
  const units = new Array(4096).fill(0), used = new Set([0])
  const place = (node, p, label) => {
    const labels = [...node.next.keys(), ...(node.value === undefined ? [] : [0])]
    let offset = 1
    while (labels.some((c) => used.has(p ^ offset ^ c))) offset++
    for (const c of labels) used.add(p ^ offset ^ c)
    units[p] = (offset << 10) | (node.value === undefined ? 0 : 1 << 8) | label
    if (node.value !== undefined) units[p ^ offset] = (node.value | (1 << 31)) >>> 0
    for (const [c, child] of node.next) place(child, p ^ offset ^ c, c)
  }
  place(root, 0, 0)
  while (units.at(-1) === 0) units.pop()
  while (units.length % 256) units.push(0)
  const head = Buffer.alloc(4 + 4 * units.length)
  head.writeUInt32LE(4 * units.length)
  units.forEach((u, i) => head.writeUInt32LE(u >>> 0, 4 + 4 * i))
  return Buffer.concat([head, blob]).toString('base64')
}
const compiled = charsmap({ 'ﬁ': 'fi', 'e\u0301': 'é', '①': '1', '\u00a0': ' ', '\u200b': '', 'H': 'h', 'Ⅷ': 'VIII', '🇩': 'D' })

const files = {
  'gpt2': level({ pre_tokenizer: byteLevelPre(true) }),
  'gpt2 prefix space': level({ pre_tokenizer: byteLevelPre(true, true), post_processor: levelDecoder }),
  'llama3': level({ pre_tokenizer: seq('pretokenizers', [split({ Regex: llama3 }), byteLevelPre(false)]),
    model: byteBPE({ ignore_merges: true }),
    post_processor: seq('processors', [levelDecoder, template([S('<eos>', 0), A(0)], [S('<eos>', 0), A(0), S('<eos>', 1), B(1)], { '<eos>': N })]) }),
  'qwen2': level({ normalizer: { type: 'NFC' }, pre_tokenizer: seq('pretokenizers', [split({ Regex: qwen2 }), byteLevelPre(false)]) }),
  'code': level({ pre_tokenizer: seq('pretokenizers', [split({ Regex: code }), byteLevelPre(false)]) }),
  'removed inverted': level({ pre_tokenizer: seq('pretokenizers', [split({ Regex: llama3 }, 'Removed', true), byteLevelPre(false)]) }),
  'o200k': level({ pre_tokenizer: seq('pretokenizers', [split({ Regex: o200k }), byteLevelPre(false)]) }),
  'falcon': level({ pre_tokenizer: seq('pretokenizers', [{ type: 'Punctuation', behavior: 'Contiguous' }, byteLevelPre(true), { type: 'Digits', individual_digits: false }, split({ Regex: '[0-9][0-9][0-9]' })]) }),
  'starcoder': level({ pre_tokenizer: seq('pretokenizers', [{ type: 'Digits', individual_digits: true }, byteLevelPre(true)]) }),
  'missing bytes': level({ pre_tokenizer: byteLevelPre(true), added_tokens: [],
    model: { ...byteBPE(), unk_token: 'a', fuse_unk: true, vocab: ids(bytes.vocab.slice(0, 100)), merges: [] } }),
  'added tokens': level({ pre_tokenizer: byteLevelPre(true), added_tokens: [eos,
    added(N + 1, '<mask>', { lstrip: true }), added(N + 2, 'word', { single_word: true, special: false }),
    added(N + 3, '  ', { special: false }), added(N + 4, '<unk>', { rstrip: true }), added(N + 5, '<s>'), added(N + 6, '<s>the')] }),
  'normalized added tokens': level({ normalizer: { type: 'Lowercase' }, pre_tokenizer: byteLevelPre(true), added_tokens: [eos,
    added(N + 1, 'hello w', { normalized: true, special: false }), added(N + 2, "it's", { special: false })] }),
  'llama2': file({ added_tokens: [added(0, '<unk>'), added(1, '<s>'), added(2, '</s>')],
    normalizer: seq('normalizers', [{ type: 'Prepend', prepend: '▁' }, { type: 'Replace', pattern: { String: ' ' }, content: '▁' }]),
    model: spBPE({ byte_fallback: true, fuse_unk: true }),
    post_processor: template([S('<s>', 0), A(0)], [S('<s>', 0), A(0), S('<s>', 1), B(1)], { '<s>': 1 }),
    decoder: seq('decoders', [{ type: 'Replace', pattern: { String: '▁' }, content: ' ' }, { type: 'ByteFallback' }, { type: 'Fuse' }, { type: 'Strip', content: ' ', start: 1, stop: 0 }]) }),
  'llama2 metaspace first': file({ added_tokens: [added(1, '<s>'), added(2, '</s>')], pre_tokenizer: meta({ prepend_scheme: 'first', split: false }),
    model: spBPE({ byte_fallback: true }), decoder: meta({ prepend_scheme: 'first' }) }),
  'characters unk': file({ pre_tokenizer: { type: 'WhitespaceSplit' }, model: spBPE() }),
  'characters fused unk': file({ pre_tokenizer: { type: 'Whitespace' }, model: spBPE({ fuse_unk: true }) }),
  'word ends': (() => {
    const w = texts.join(' ').toLowerCase().match(/[a-z]+/g).filter((s) => s.length < 12)
    const start = [...new Set(w.join(''))].sort()
    const { vocab, merges } = bpe(w, start, 40)
    return file({ normalizer: { type: 'Lowercase' }, pre_tokenizer: { type: 'Whitespace' }, decoder: { type: 'BPEDecoder', suffix: '</w>' },
      model: { ...byteBPE(), unk_token: '<unk>', end_of_word_suffix: '</w>', vocab: ids(['<unk>', ...vocab, ...start.map((c) => c + '</w>'), 'he</w>', 'the</w>']),
        merges: [...merges, ['h', 'e</w>'], ['t', 'he</w>']] } })
  })(),
  'bert': file({ added_tokens: bertMarks, normalizer: bert(), pre_tokenizer: { type: 'BertPreTokenizer' }, model: wordPiece(),
    post_processor: template([S('[CLS]', 0), A(0), S('[SEP]', 0)], [S('[CLS]', 0), A(0), S('[SEP]', 0), B(1), S('[SEP]', 1)], { '[CLS]': 2, '[SEP]': 3 }),
    decoder: { type: 'WordPiece', prefix: '##', cleanup: true } }),
  'bert cased': file({ added_tokens: bertMarks, normalizer: bert({ lowercase: false }), pre_tokenizer: { type: 'BertPreTokenizer' }, model: wordPiece({ max_input_chars_per_word: 10 }),
    post_processor: { type: 'BertProcessing', sep: ['[SEP]', 3], cls: ['[CLS]', 2] }, decoder: { type: 'WordPiece', prefix: '##', cleanup: false } }),
  'bert accents': file({ normalizer: bert({ strip_accents: true, lowercase: false, handle_chinese_chars: false, clean_text: false }), pre_tokenizer: { type: 'Whitespace' }, model: wordPiece(),
    post_processor: { type: 'RobertaProcessing', sep: ['[SEP]', 3], cls: ['[CLS]', 2], trim_offsets: true, add_prefix_space: false } }),
  'unigram': file({ added_tokens: [added(1, '<s>'), added(2, '</s>')], pre_tokenizer: meta(), model: unigram(), decoder: meta() }),
  'unigram bytes': file({ normalizer: seq('normalizers', [{ type: 'Nmt' }, { type: 'NFKC' }, { type: 'Replace', pattern: { Regex: ' {2,}' }, content: ' ' }]),
    pre_tokenizer: seq('pretokenizers', [{ type: 'WhitespaceSplit' }, meta()]), model: unigram({ vocab: uniBytes, byte_fallback: true }),
    decoder: seq('decoders', [{ type: 'ByteFallback' }, meta(), { type: 'Fuse' }]) }),
  'unigram never': file({ normalizer: { type: 'Strip', strip_left: true, strip_right: true }, pre_tokenizer: meta({ prepend_scheme: 'never', split: false }), model: unigram(), decoder: meta({ prepend_scheme: 'never' }) }),
}
for (const [name, pre] of Object.entries({
  Whitespace: { type: 'Whitespace' }, WhitespaceSplit: { type: 'WhitespaceSplit' }, BertPreTokenizer: { type: 'BertPreTokenizer' },
  'Punctuation': { type: 'Punctuation', behavior: 'Isolated' }, 'Punctuation merged': { type: 'Punctuation', behavior: 'MergedWithPrevious' },
  'Digits': { type: 'Digits', individual_digits: false }, 'Metaspace': meta({ prepend_scheme: 'first' }),
  'CharDelimiterSplit': { type: 'CharDelimiterSplit', delimiter: 'l' },
  'Split removed': split({ String: 'l' }, 'Removed'), 'Split next': split({ Regex: '[aeiou ]' }, 'MergedWithNext'),
  'Split previous': split({ Regex: '[aeiou ]' }, 'MergedWithPrevious'), 'Split contiguous': split({ Regex: '[aeiou ]' }, 'Contiguous', true),
  'Split empty matches': split({ Regex: '(?=[A-Z ])' }),
})) files['cuts ' + name] = wordLevel(pre, null)
const all = split({ Regex: '(?s).+' })
for (const [name, n] of Object.entries({
  NFC: { type: 'NFC' }, NFD: { type: 'NFD' }, NFKC: { type: 'NFKC' }, NFKD: { type: 'NFKD' }, Lowercase: { type: 'Lowercase' },
  StripAccents: seq('normalizers', [{ type: 'NFD' }, { type: 'StripAccents' }]), Nmt: { type: 'Nmt' }, Strip: { type: 'Strip', strip_left: true, strip_right: false },
  Prepend: { type: 'Prepend', prepend: '▁' }, Replace: { type: 'Replace', pattern: { Regex: '[lo]+' }, content: 'L' }, ByteLevel: { type: 'ByteLevel' },
  Bert: bert(),
})) files['normal ' + name] = wordLevel(null, n)
files['normal Precompiled'] = wordLevel(null, { type: 'Precompiled', precompiled_charsmap: compiled })

const out = []
for (const [name, f] of Object.entries(files)) {
  const t = Tokenizer.fromString(JSON.stringify(f))
  const cases = []
  for (const text of texts) {
    const ids = (await t.encode(text, null, { addSpecialTokens: false })).getIds()
    cases.push({ text, ids, decoded: await t.decode(ids, false) })
  }
  const frame = await t.encode(texts[4], texts[3]), single = await t.encode(texts[4])
  out.push({ name, file: f, cases, single: { ids: single.getIds(), types: single.getTypeIds() }, pair: { ids: frame.getIds(), types: frame.getTypeIds() } })
}
writeFileSync(process.argv[2], '[\n' + out.map((o) => JSON.stringify(o)).join(',\n') + '\n]\n')
