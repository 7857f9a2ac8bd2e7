// Greets everybody who has a name: {"name":"Ada"} becomes {"name":"Ada","greeting":"hello, Ada"}.

import { byColumn, readConfig } from "#wasmill";

export default byColumn({
  // The fields that the plugin uses are declared once, then read and written a whole chunk of records at a time.
  configure(config, setup) {
    const { word } = readConfig(config, { word: "hello" });
    return { word, name: setup.field("name"), greeting: setup.field("greeting") };
  },

  process(rows, { word, name, greeting }) {
    const names = rows.text(name);
    // Who has no name passes as it is.
    rows.setText(greeting, names.map((name) => `${word}, ${name}`));
    for (let row = 0; row < rows.length; row++) {
      // A record that makes no sense becomes a dead letter with this reason; the others go on.
      if (names.isOther(row)) rows.fail(row, "name is no text");
    }
  },
});
