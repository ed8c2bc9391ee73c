// Derives the numbers of a walk from the rules of its program and the recorded arrays, as the debugger does.

// Numbers as they are written. A number is rounded as its exact binary value; a tie goes to the even digit.
function roundedTo(x, last) {  // the multiple of 10 to the power of `last`, as a whole number
  const view = new DataView(new ArrayBuffer(8));
  view.setFloat64(0, Math.abs(x));
  const bits = view.getBigUint64(0), raw = Number(bits >> 52n), power = BigInt(Math.max(raw, 1) - 1075);
  let top = (bits & 0xfffffffffffffn) + (raw ? 0x10000000000000n : 0n), below = 1n;
  if (power >= 0n) top <<= power; else below <<= -power;
  if (last < 0) top *= 10n ** BigInt(-last); else below *= 10n ** BigInt(last);
  const whole = top / below, rest = 2n * (top % below);
  const n = whole + (rest > below || (rest === below && whole & 1n) ? 1n : 0n);
  return x < 0 ? -n : n;
}
const pointed = (n, places) => {  // the digits of a whole number with so many of them behind the point
  const digits = String(n < 0n ? -n : n).padStart(places + 1, '0');
  return places > 0 ? `${digits.slice(0, -places)}.${digits.slice(-places)}` : digits;
};
const magnitudeOf = x => Number(Math.abs(x).toExponential(60).split('e')[1]);
const exponent = power => `e${power < 0 ? '-' : '+'}${String(Math.abs(power)).padStart(2, '0')}`;
const notFinite = (x, plus) => (Number.isNaN(x) ? `${plus}nan` : x > 0 ? `${plus}inf` : '−inf');
const fixed = (x, places) => (x < 0 || Object.is(x, -0) ? '−' : '') + pointed(roundedTo(x, -places), places);
function short(x) {
  if (!Number.isFinite(x)) return notFinite(x, '');
  if (Number.isInteger(x) && Math.abs(x) < 1000) return String(x + 0 || 0).replace('-', '−');
  if (Math.abs(x) >= .001 && Math.abs(x) < 1e6) return fixed(x, 4);
  let power = magnitudeOf(x), n = roundedTo(Math.abs(x), power - 3);
  if (n === 10000n) { n = 1000n; power++; }
  return `${x < 0 ? '−' : ''}${pointed(n, 3)}${exponent(power).replace('-', '−')}`;
}
function shortPercent(share) {
  if (share === null || Number.isNaN(share)) return '';
  if (share > 0 && share < .01) return '<1%';
  return share > .99 && share < 1 ? '>99%' : `${fixed(100 * share, 0)}%`;
}
// The format of a group of values: down to the same decimal place, `last`.
function formOf(values, digits) {
  const largest = values.reduce((most, x) => (Number.isFinite(x) ? Math.max(most, Math.abs(x)) : most), 0);
  if (!largest) return {last: -digits, exponents: false};
  const power = magnitudeOf(largest);
  return power >= -4 && power < digits ? {last: Math.max(power, 0) - digits, exponents: false} : {last: power - digits + 1, exponents: true};
}
function written(form, x, digits) {
  if (!Number.isFinite(x)) return notFinite(x, '+');
  const n = roundedTo(x, form.last);
  if (n === 0n) return x ? written(formOf([x], digits), x, digits) : '0';
  const sign = n < 0n ? '−' : '+';
  if (!form.exponents) return sign + pointed(form.last > 0 ? n * 10n ** BigInt(form.last) : n, Math.max(-form.last, 0));
  const length = String(n < 0n ? -n : n).length, power = length - 1 + form.last;
  return sign + pointed(n, Math.max(power - form.last, 0)) + exponent(power);
}
// The value minus the sum of its terms, all as they are written, in multiples of the last place.
function missing(form, value, terms, digits) {
  if (![value, ...terms].every(Number.isFinite)) return 0;
  let least = form.last;
  const parts = [value, ...terms].map(x => {
    const n = roundedTo(x, form.last);
    if (n !== 0n || !x) return [n, form.last];
    const own = formOf([x], digits);
    least = Math.min(least, own.last);
    return [roundedTo(x, own.last), own.last];
  }).map(([n, last]) => n * 10n ** BigInt(last - least));
  const rest = parts[0] - parts.slice(1).reduce((sum, n) => sum + n, 0n), unit = 10n ** BigInt(form.last - least);
  const size = rest < 0n ? -rest : rest, whole = size / unit, over = 2n * (size % unit), n = whole + (over > unit || (over === unit && whole & 1n) ? 1n : 0n);
  return Number(`${rest < 0n ? '-' : ''}${n}e${form.last}`);
}

function erf(x) {
  const size = Math.abs(x);
  let sum = size, term = size, below = 0;
  if (!(size < 6)) return Number.isNaN(x) ? x : Math.sign(x);
  if (size < 2.5) for (let n = 1; Math.abs(term) > 1e-18 * sum; n++) { term *= -size * size / n; sum += term / (2 * n + 1); }
  else { for (let n = 60; n > 0; n--) below = n / 2 / (size + below); return Math.sign(x) * (1 - Math.exp(-size * size) / Math.sqrt(Math.PI) / (size + below)); }
  return Math.sign(x) * 2 / Math.sqrt(Math.PI) * sum;
}
const arithmetic = {
  Sum: (...all) => all.reduce((a, b) => a + b), Times: (...all) => all.reduce((a, b) => a * b), Negative: a => -a, Quotient: (a, b) => a / b, Power: (a, b) => a ** b,
  tanh: Math.tanh, log: Math.log, exp: Math.exp, sqrt: Math.sqrt, sin: Math.sin, cos: Math.cos, absolute: Math.abs, sign: Math.sign, minimum: Math.min, maximum: Math.max,
  erf, greater: (a, b) => Number(a > b), logaddexp: (a, b) => Math.max(a, b) + Math.log1p(Math.exp(-Math.abs(a - b))),
};
const total = values => values.reduce((sum, x) => sum + x, 0);

// `data` has the rules and the places of the arrays, `numbers` all arrays one after the other.
function derivations(data, numbers) {
  const [ticks, batchesOfEpoch, length, backwardEnd] = data.batch, [few, mostTerms, digits] = data.limits;
  const names = {}, places = new Map(), weights = new Map(), strides = new Map();
  for (const [name, [text, kind, axes, timed, place, of, oneHot]] of Object.entries(data.names)) names[name] = {name, text, kind, axes, timed, place, of, oneHot};
  const lay = (table, rows) => rows.reduce((at, [name, ...shape]) => { table.set(name, at); strides.set(name, shape); return at + shape.reduce((a, b) => a * b, 1); }, 0);
  lay(places, data.arrays);
  lay(weights, data.weights);
  const functions = Object.fromEntries(Object.entries(data.functions).map(([name, [text, formula]]) => [name, {text, of: x => applied(formula, x)}]));
  const applied = (formula, x) => (formula === 'x' ? x : typeof formula === 'number' ? formula : arithmetic[formula[0]](...formula.slice(1).map(part => applied(part, x))));
  const isGradient = name => names[name] && names[name].kind === 'GRADIENT', isWeight = name => names[name] && (names[name].kind === 'PARAMETER' || names[name].kind === 'OPTIMIZER_STATE');

  // Places in time
  const batchOf = tick => (tick ? Math.floor((tick - 1) / ticks) : 0), offsetOf = tick => (tick ? (tick - 1) % ticks + 1 : 0), endOf = batch => (batch + 1) * ticks;
  const home = name => (names[name] && names[name].place ? names[name].place : null);
  function position(tick) {
    if (!tick) return {t: 0, phase: 'start'};
    const k = offsetOf(tick) - 1, block = data.blocks.filter(each => each[0] <= k).pop(), [start, count, , direction, phases] = block;
    const step = Math.floor((k - start) / count);
    return {t: !direction ? length - 1 : direction > 0 ? step : length - 1 - step, phase: phases[(k - start) % count]};
  }
  function inWords(tick) {
    const {t, phase} = position(tick), batch = batchOf(tick), n = x => x.toLocaleString('en-US');
    return [`epoch ${n(Math.floor(batch / batchesOfEpoch) + 1)}`, `batch ${n(batch % batchesOfEpoch + 1)}`, `t ${n(t + 1)}`, phase].join(' · ');
  }
  const batchInWords = batch => `epoch ${(Math.floor(batch / batchesOfEpoch) + 1).toLocaleString('en-US')}, batch ${(batch % batchesOfEpoch + 1).toLocaleString('en-US')}`;
  function tickOf(name, t) {  // of a batch, at which a line is executed for a timestep
    const place = home(name) || data.homes[name];
    if (!place) return null;
    const [start, count, , direction] = data.blocks[place[0]], step = !direction ? 0 : direction > 0 ? t : length - 1 - t;
    return start + step * count + place[1] + 1;
  }
  function stepsDone(name, offset) {
    const [start, count, steps] = data.blocks[home(name)[0]];
    return Math.min(Math.max(Math.floor((offset - start - home(name)[1] - 1) / count) + 1, 0), steps);
  }
  const record = batch => data.batches[batch], has = number => record(batchOf(number.tick)) !== undefined;

  // Recorded numbers
  function at(base, name, index) { const shape = strides.get(name); return numbers[base + index.reduce((sum, i, axis) => sum * shape[axis] + i, 0)]; }
  function recorded(batch, name, index, t) {
    const row = record(batch), base = row.at + places.get(name), input = names[name] && names[name].oneHot;
    if (input) return Number(at(base, name, [t, index[0]]) === index[1]);
    return at(base, name, strides.get(name).length > index.length ? [t, ...index] : index);
  }
  const picked = (batch, name, row, t) => at(record(batch).at + places.get(name), name, [t, row]);
  const isNew = (name, number) => record(batchOf(number.tick)).learned && offsetOf(number.tick) >= tickOf(name, 0);
  function valueOf(number) {
    const {name, index, tick} = number, batch = batchOf(tick), row = record(batch), named = names[name], t = number.t === null ? position(tick).t : number.t;
    if (!row) return NaN;
    if (isWeight(name)) return at(row[isNew(name, number) ? 'after' : 'before'] + weights.get(name), name, index);
    if (named.kind === 'SETTING') return row.settings[name];
    if (name === 'max_weight') return Math.abs(valueOf(largestWeight(number)));
    if (named.kind === 'NUMBER') return Number(row.numbers[name]);
    if (isGradient(name)) {
      const done = stepsDone(name, offsetOf(tick)), base = data.partial[`${batch} ${name} ${done}`];
      if (done < data.blocks[named.place[0]][2] && offsetOf(tick) < backwardEnd) return base === undefined ? NaN : at(base, name, index);
    }
    return recorded(batch, name, index, t);
  }

  // The terms of a rule
  const words = (axis, i) => (data.words[axis] || [])[i] || String(i + 1);
  const spoken = (name, index) => { const all = index.map((i, k) => words(names[name].axes[k], i)); return names[name].text + (all.length ? `[${all.join(', ')}]` : ''); };
  const placed = (map, index, k, pick) => map.map(each => { const [axis, offset] = Array.isArray(each) ? each : [each, 0]; return (axis === -1 ? k : axis === -2 ? pick : index[axis]) + offset; });
  function listed(rule, index, tick, t) {  // the terms, each a list of factors with their places
    const batch = batchOf(tick);
    let pick = 0, chosen = rule.terms || [], all;
    if (rule.reads) pick = picked(batch, rule.reads[0], index[rule.reads[1]], t);
    if (rule.joins) { const column = index[rule.column], k = rule.joins.filter(start => start <= column).length - 1; chosen = [rule.terms[k]]; }
    if (rule.readBy) {
      const [name, axis] = rule.readBy, rows = strides.get(name)[1];
      all = Array.from({length: rows}, (_, row) => row).filter(row => picked(batch, name, row, t) === index[axis]);
    } else all = rule.size === undefined ? chosen.map((_, k) => k) : Array.from({length: rule.size}, (_, k) => k);
    return all.map((k, i) => (rule.size === undefined && !rule.readBy ? chosen[k] : chosen[0]).map(([what, map, sign, over]) => ({what, index: placed(map, index, k, pick), sign, t: over ? k : t, over, k: i})));
  }
  const factorValue = (f, tick) => (typeof f.what === 'string' ? valueOf({name: f.what, index: f.index, t: names[f.what].timed ? f.t : null, tick}) : partValue(data.parts[f.what], f.index, tick, f.t));
  function partValue(part, index, tick, t) {
    if (part.value !== undefined) return part.value;
    if (part.recorded) return recorded(batchOf(tick), part.recorded, index, t);
    if (part.updates) return record(batchOf(tick)).updates;
    return ruleValue(data.rules[part.rule], index, tick, t);
  }
  function ruleValue(rule, index, tick, t) {
    if (rule.kind === 'recorded') return ruleValue(data.rules[rule.rule], index, tick, t);
    const values = listed(rule, index, tick, t).map(term => term.reduce((product, f) => product * f.sign * factorValue(f, tick), 1));
    switch (rule.kind) {
      case 'product': return values.reduce((a, b) => a * b, 1);
      case 'quotient': return values[0] / values[1];
      case 'power': return values[0] ** values[1];
      case 'min': case 'max': return Math[rule.kind](...values);
      case 'softmax': { const most = Math.max(...values), powers = values.map(x => Math.exp(x - most)); return powers[index[rule.chosen]] / total(powers); }
    }
    const sum = total(values) * (rule.scale || 1);
    return functions[rule.kind] ? functions[rule.kind].of(sum) : sum;
  }

  // Derivations: kind, terms, and what is said of them. The terms of one that is not `near` are in another batch.
  const given = (note, tick = null) => ({kind: 'given', note, tick, formula: '', scale: 1, near: true, terms: []});
  function derivation(kind, terms, more = {}) {
    let made = null;
    return {kind, note: '', formula: '', tick: null, scale: 1, near: true, get terms() { return made = made || terms(); }, ...more};
  }
  const withMore = (of, more) => Object.create(of, Object.fromEntries(Object.entries(more).map(([key, value]) => [key, {value, enumerable: true}])));
  function node(label, value, expand, sign = 1, number = null) {
    let made = null;
    return {label, value, sign, number, get derivation() { return made = made || expand(); }, get contribution() { return sign * value; }};
  }
  const numberNode = (number, sign = 1, label = spoken(number.name, number.index)) => node(label, valueOf(number), () => derive(number), sign, number);
  function entry(f, tick, after) {
    if (typeof f.what === 'string') {
      const number = {name: f.what, index: f.index, t: names[f.what].timed ? f.t : null, tick};
      const isOld = after && names[f.what].kind === 'OPTIMIZER_STATE' && tickOf(f.what, 0) === offsetOf(tick) + 1;
      return numberNode(number, f.sign, isOld ? `prev(${spoken(f.what, f.index)})` : undefined);
    }
    const part = data.parts[f.what];
    return node(part.text, partValue(part, f.index, tick, f.t), () => {
      if (part.updates) return given(part.updates);
      if (!part.part) return formula(part.rule, f.index, tick, f.t, after);
      return formula(part.rule, f.index, batchOf(tick) * ticks + tickOf(part.recorded, f.t), f.t, after);
    }, f.sign);
  }
  function formula(number, index, tick, t, after = false) {
    const rule = data.rules[number];
    if (rule.kind === 'recorded') { const then = batchOf(tick) * ticks + tickOf(rule.line, t); return withMore(formula(rule.rule, index, then, t, after), {tick: then}); }
    if (rule.kind === 'softmax') return softmax(rule, index, tick, t, after);
    if (rule.row) return logOfSoftmax(rule, index, tick, t, after);
    if (rule.kind === 'given') return given(rule.note || '');
    let note = rule.note || '';
    if (rule.reads) { const pick = picked(batchOf(tick), rule.reads[0], index[rule.reads[1]], t); note = `${words(data.names[rule.reads[0]][2][1], pick)} picks row ${pick + 1} of ${rule.picks}`; }
    if (rule.readBy && !listed(rule, index, tick, t).length) return given(`no row reads ${words(names[rule.readBy[0]].axes[1], index[rule.readBy[1]])} at this timestep`);
    const made = () => listed(rule, index, tick, t).map((term, k) => {
      const nodes = term.map(f => entry(f, tick, after));
      if (nodes.length === 2) return node(`${rule.text} at ${words(rule.axis, k)}`, nodes[0].value * nodes[1].value, () => derivation('product', () => nodes));
      return term[0].over ? node(`${nodes[0].label} at t ${term[0].k + 1}`, nodes[0].value, () => nodes[0].derivation, nodes[0].sign, nodes[0].number) : nodes[0];
    });
    return derivation(rule.kind, made, {note, scale: rule.scale || 1});
  }
  function softmax(rule, index, tick, t, after) {
    const factors = listed(rule, index, tick, t).map(term => term[0]), values = factors.map(f => factorValue(f, tick)), top = values.indexOf(Math.max(...values));
    const powers = factors.map(f => { const o = entry(f, tick, after), most = entry({...factors[top], sign: -1}, tick, after); return node(`exp(${o.label} − max)`, Math.exp(o.value - most.value), () => derivation('exp', () => [o, most])); });
    const sum = node('Σ exp', total(powers.map(each => each.value)), () => derivation('sum', () => powers, {note: rule.over}));
    const chosen = Array.isArray(rule.chosen) ? index[rule.chosen[0]] + rule.chosen[1] : index[rule.chosen];
    return derivation('quotient', () => [powers[chosen], sum]);
  }
  function logOfSoftmax(rule, index, tick, t, after) {
    const [[f]] = listed(rule, index, tick, t), share = factorValue(f, tick), whole = rule.recorded ? recorded(batchOf(tick), rule.recorded, index, t) : Math.log(share), log = Math.log(share);
    if (share > 1e-30 || (!Number.isFinite(log) && !Number.isNaN(log) && !Number.isFinite(whole))) return derivation('log', () => [entry(f, tick, after)]);
    const values = listed(rule.row, index, tick, t).map(term => factorValue(term[0], tick)), most = Math.max(...values), [shown, name] = rule.texts;
    const rest = Math.log(total(values.map(x => Math.exp(x - most)))) + most, [what, map, sign] = rule.chosen;
    return derivation('sum', () => [entry({what, index: placed(map, index), sign, t}, tick, after), node(`log Σ exp(${shown})`, rest, () => given('over the vocabulary'), -1)], {note: `${shown} − log Σ exp(${shown}): ${name} is too small`});
  }

  // The derivation of a number of the run
  const tOf = number => (number.t === null ? position(number.tick).t : number.t);
  const computedAt = number => batchOf(number.tick) * ticks + tickOf(number.name, tOf(number));
  function derive(number) {
    const named = names[number.name], row = record(batchOf(number.tick));
    switch (named.kind) {
      case 'PARAMETER': case 'OPTIMIZER_STATE': return weight(number);
      case 'GRADIENT': return gradient(number);
      case 'INPUT': return given(row ? row.inputs[number.name][tOf(number)][number.index[0]] : '', number.tick);
      case 'STATE': return stateBefore(number, named.of);
      case 'SETTING': return given(row ? row.set[number.name] : '');
    }
    if (number.name === 'grad_norm') return norm(number);
    if (number.name === 'max_weight') return largest(number);
    if (named.kind === 'VALUE_GRADIENT' && data.states[named.of]) return fromNext(number, named.of);
    const tick = computedAt(number), [rule, text] = data.lines[number.name];
    return withMore(formula(rule, number.index, tick, tOf(number)), {tick, formula: text});
  }
  function copy(of, note, value) {
    const tick = has(of) ? derive(of).tick : computedAt(of), there = has(of) ? numberNode(of) : node(spoken(of.name, of.index), value, () => given(''));
    return derivation('copy', () => [there], {note, tick});
  }
  function stateBefore(number, state) {
    const [, backwards] = data.states[state], direction = backwards ? -1 : 1, t = tOf(number), batch = batchOf(number.tick), shown = names[state].text;
    if (t - direction >= 0 && t - direction < length) return copy({...number, name: state, t: t - direction}, `${shown} at t ${t - direction + 1}`);
    const note = record(batch).begins[state];
    if (note !== null) return given(note);
    return copy({name: state, index: number.index, t: backwards ? 0 : length - 1, tick: endOf(batch - 1)}, `${shown} at the end of the batch before`, valueOf(number));
  }
  function fromNext(number, state) {
    const [before, backwards] = data.states[state], direction = backwards ? -1 : 1, t = tOf(number);
    if (t + direction < 0 || t + direction >= length) return given(direction > 0 ? 'nothing comes after the last timestep' : 'nothing comes before the first timestep');
    return copy({...number, name: `d${before}`, t: t + direction}, `what t ${t + direction + 1} hands back`);
  }
  function weight(number) {
    const batch = batchOf(number.tick), learned = isNew(number.name, number) ? batch : record(batch).from;
    if (learned === null) return given(data.initial[number.name]);
    const tick = learned * ticks + tickOf(number.name, 0), before = tick - 1, t = length - 1, [text, assigns, rule, [what, map, sign]] = data.updates[number.name];
    const terms = () => {
      if (!record(learned)) return [];
      const change = entry({what, index: placed(map, number.index), sign, t}, before, true);
      if (assigns) { const made = formula(rule, number.index, before, t, true); return made.kind === 'sum' ? made.terms : [change]; }
      const old = {...number, tick: before};
      return [numberNode(old, 1, `prev(${spoken(number.name, number.index)})`), node(change.label, change.value, () => change.derivation, -1, change.number)];
    };
    return derivation('sum', terms, {tick, formula: text, note: `from the update of ${batchInWords(learned)}`, near: false});
  }
  function gradient(number) {
    const batch = batchOf(number.tick), done = stepsDone(number.name, offsetOf(number.tick)), [start, count, , direction] = data.blocks[names[number.name].place[0]], last = length - 1;
    const tick = batch * ticks + start + (done - 1) * count + names[number.name].place[1] + 1, [text, rule, share, map, once] = data.shares[number.name];
    if (!direction) return withMore(formula(rule, number.index, tick, last), {tick, formula: text});
    const terms = () => {
      const index = placed(map, number.index), steps = share === null ? [] : Array.from({length: done}, (_, k) => (direction > 0 ? k : last - k));
      const shared = t => node(`t ${t + 1}`, partValue(data.parts[share], index, tick, t), () => withMore(formula(data.parts[share].rule, index, tick, t), {tick: batch * ticks + tickOf(number.name, t), formula: text}));
      return [...steps.map(shared), ...once.map(([what, own, sign]) => entry({what, index: placed(own, number.index), sign, t: last}, tick, false))];
    };
    return derivation('sum', terms, {tick, formula: text, note: 'a share of each timestep'});
  }
  function norm(number) {
    const batch = batchOf(number.tick), tick = batch * ticks + (tickOf('grad_norm', 0) || backwardEnd), all = Object.values(names).filter(each => each.kind === 'GRADIENT');
    const sizeOf = each => { const size = strides.get(each.name).reduce((a, b) => a * b, 1), base = record(batch).at + places.get(each.name); return Math.sqrt(total(Array.from(numbers.subarray(base, base + size), x => x * x))); };
    return derivation('norm', () => all.map(each => node(`‖${each.name}‖`, sizeOf(each), () => given('the root of the sum of its squares'))), {tick, note: 'the root of the sum of the squares'});
  }
  function largestWeight(number) {  // of the weights as of a moment: in the update, some are new
    let best = null, most = -1;
    for (const [name, ...shape] of data.weights) {
      if (names[name].kind !== 'PARAMETER') continue;
      const size = shape.reduce((a, b) => a * b, 1), base = record(batchOf(number.tick))[isNew(name, number) ? 'after' : 'before'] + weights.get(name);
      for (let i = 0; i < size; i++) if (Math.abs(numbers[base + i]) > most) {
        most = Math.abs(numbers[base + i]);
        best = {name, index: shape.map((_, axis) => Math.floor(i / shape.slice(axis + 1).reduce((a, b) => a * b, 1)) % shape[axis]), t: null, tick: number.tick};
      }
    }
    return best;
  }
  function largest(number) {
    const of = numberNode(largestWeight(number));
    return derivation('copy', () => [node(of.label, of.value, () => of.derivation, of.value < 0 ? -1 : 1, of.number)], {tick: number.tick, note: 'the largest |weight|'});
  }

  // Derivations as rows
  const adds = each => !['product', 'quotient', 'power', 'min', 'max', 'given', 'copy'].includes(each.kind);
  function shares(of) {
    const {derivation: each} = of, sizes = adds(each) ? each.terms.map(term => Math.abs(term.value)) : [], most = Math.max(0, ...sizes);
    if (!(most > 0 && most < Infinity) || sizes.some(Number.isNaN)) return [];
    const parts = sizes.map(size => (each.kind === 'norm' ? (size / most) ** 2 : size / most)), sum = total(parts);
    return parts.map(part => part / sum);
  }
  function made(of) {
    const each = of.derivation;
    if (each.kind === 'given' || !each.near) return each.note;
    const values = each.terms.map(term => short(term.contribution)), note = each.note ? `  (${each.note})` : '';
    switch (each.kind) {
      case 'copy': return `← ${each.note || each.terms[0].label}`;
      case 'product': return values.join(' · ');
      case 'quotient': return values.join(' / ');
      case 'power': return values.join(' ^ ');
      case 'min': case 'max': return `${each.kind}(${values.join(', ')})`;
      case 'norm': return `√ of ${values.length} squares`;
    }
    const sum = values.length > 4 ? `Σ of ${values.length} terms` : values.map((text, i) => (!i ? text : text.startsWith('−') ? `− ${text.slice(1)}` : `+ ${text}`)).join(' ');
    if (functions[each.kind] || each.kind === 'log' || each.kind === 'exp') return `${functions[each.kind] ? functions[each.kind].text : each.kind}(${sum})`;
    if (each.scale !== 1) return `${each.scale < 0 ? '−' : ''}(${sum})${Math.abs(each.scale) !== 1 ? ` / ${values.length}` : ''}${note}`;
    return sum + note;
  }
  const signOf = (parent, term, i) => (term.sign < 0 ? '−' : !i ? '' : data.signs[parent.kind] || (adds(parent) ? '+' : ''));
  // The parts that are open at first, within 16 rows: those of few terms, and parts of these.
  function firstOpened(root, room = 16) {
    const opened = new Set(), parts = [[root, true]];
    let used = root.derivation.terms.length;
    while (parts.length) {
      const [part, isRoot] = parts.shift(), terms = part.derivation.terms;
      if (!isRoot) { used += terms.length; if (used > room) break; opened.add(part); }
      for (const term of terms.length <= mostTerms ? terms : []) {
        const own = term.number ? null : term.derivation;
        if (own && own.near && !['exp', 'given', 'copy'].includes(own.kind) && own.terms.length <= few) parts.push([term]);
      }
    }
    return opened;
  }
  function rowsOf(root, identified) {
    const rows = [], opened = firstOpened(root);
    (function grow(parent, depth) {
      const each = parent.derivation, part = shares(parent);
      let terms = each.terms.map((term, i) => ({term, share: each.terms.length > 1 && part.length ? part[i] : null})), hidden = [];
      if (terms.length > mostTerms && adds(each)) {
        const size = ({term}) => (Number.isFinite(term.value) ? -Math.abs(term.value) : -Infinity);
        terms.sort((a, b) => (size(a) < size(b) ? -1 : size(a) > size(b) ? 1 : 0));
        [terms, hidden] = [terms.slice(0, mostTerms), terms.slice(mostTerms)];
      }
      const summed = each.kind === 'sum' && each.scale === 1, rest = total(hidden.map(({term}) => term.contribution));
      const values = [...terms.map(({term}) => (summed ? term.contribution : term.value)), ...(hidden.length ? [rest] : [])];
      const form = formOf(summed ? [...values, parent.value] : values, digits), lacks = summed && values.length ? missing(form, parent.value, values, digits) : 0;
      terms.forEach(({term, share}, i) => {
        const inner = each.terms.length <= mostTerms && !term.number && term.derivation.near && term.derivation.terms.length > 0;
        const own = term.number && has(term.number) ? identified(term.number) : null;
        rows.push([depth, signOf(each, term, i), term.label, written(form, summed ? term.contribution : term.value, digits), shortPercent(share), made(term), Number(opened.has(term)), own]);
        if (inner) grow(term, depth + 1);
      });
      if (hidden.length) rows.push([depth, '', `… ${hidden.length} smaller terms`, written(form, rest, digits), part.length ? shortPercent(total(hidden.map(each_ => each_.share))) : '', '', 0, null]);
      if (lacks) rows.push([depth, '', 'rounding', written(form, lacks, digits), '', 'of the sum, and of the digits shown', 0, null]);
    })(root, 1);
    return rows;
  }

  // What the page shows of a number: name, value, line, place, moment, computation, and the rows of its terms.
  const known = [], byPlace = new Map();
  function identified(number) {
    const each = derive(number), key = [number.name, number.index, each.kind === 'given' ? each.note + valueOf(number) : each.tick].join('|');
    if (!byPlace.has(key)) { byPlace.set(key, known.length); known.push({number, shown: null}); }
    return byPlace.get(key);
  }
  function momentOf(tick) {
    if (tick < data.ticks[0] || tick > data.ticks[data.ticks.length - 1]) return null;
    return data.ticks.findIndex(each => each >= tick);
  }
  function shown(n) {
    const one = known[n];
    if (!one.shown) {
      const root = numberNode(one.number), each = root.derivation, tick = each.tick === null ? one.number.tick : each.tick;
      const place = each.kind === 'given' ? '' : tick ? inWords(tick) : 'before the first line', moment = place ? momentOf(tick) : null;
      one.shown = [root.label, written(formOf([root.value], digits), root.value, digits), each.formula, place, moment, made(root), rowsOf(root, identified)];
    }
    return one.shown;
  }
  function atMoment(ref, moment) {  // the number of a place on the screen
    const [name, index, t, before] = data.refs[ref], tick = data.ticks[moment] - before;
    return identified({name, index, t: t === null && names[name].timed ? position(data.ticks[moment]).t : t, tick});
  }
  return {atMoment, shown, identified};
}

// The numbers of arrays that were packed by bytes: the lowest of each number first.
function unpackedNumbers(bytes, size) {
  const count = bytes.length / size, all = new Uint8Array(bytes.length);
  for (let byte = 0; byte < size; byte++) for (let i = 0; i < count; i++) all[i * size + byte] = bytes[byte * count + i];
  return size === 8 ? new Float64Array(all.buffer) : new Float32Array(all.buffer);
}
if (typeof module !== 'undefined') module.exports = {derivations, unpackedNumbers, short, shortPercent, formOf, written};
