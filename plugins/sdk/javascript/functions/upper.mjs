// A function of the older style, which hands its answer to a callback.

export const handler = (event, context, callback) => {
  const records = event.records.map(({ recordId, data }) => ({
    recordId,
    result: "Ok",
    data: btoa(atob(data).toUpperCase()),
  }));
  Promise.resolve().then(() => callback(null, { records }));
};
