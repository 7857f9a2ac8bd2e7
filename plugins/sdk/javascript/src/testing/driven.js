// Runs what may have to wait: a generator that yields values and promises, and gets what they come to.

/** Of a plugin that waits a promise of what the generator returns, else what it returns itself. */
export function driven(plugin, steps) {
  if (plugin?.waits) return waited(steps);
  let step = steps.next();
  while (!step.done) step = steps.next(step.value);
  return step.value;
}

async function waited(steps) {
  let step = steps.next();
  while (!step.done) {
    let came;
    try {
      came = await step.value;
    } catch (error) {
      step = steps.throw(error);
      continue;
    }
    step = steps.next(came);
  }
  return step.value;
}
