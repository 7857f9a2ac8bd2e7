// kinesis-local on loopback and free ports, where it would listen on all addresses. Prints "port N" of the one without TLS.

const net = require("node:net");
const path = require("node:path");

const PLAIN = 4568;
const main = require.resolve("kinesis-local/main.js");
// It reads the certificate beside it.
process.chdir(path.dirname(main));

const listen = net.Server.prototype.listen;
net.Server.prototype.listen = function (...given) {
  const then = given.filter((argument) => typeof argument === "function");
  const asked = typeof given[0] === "object" ? given[0].port : given[0];
  if (Number(asked) === PLAIN) {
    this.once("listening", () => process.stdout.write(`port ${this.address().port}\n`));
  }
  return listen.call(this, { host: "127.0.0.1", port: 0 }, ...then);
};

// Whoever started it ends it by closing its standard input.
process.stdin.on("end", () => process.exit(0)).resume();

require(main);
