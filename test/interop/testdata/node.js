// An app that logs every request that it makes out, and every one that it does not.
const [,, address, log] = process.argv;
const fs = require('fs'), http = require('http');
const out = fs.openSync(log, 'a');
const seen = line => fs.writeSync(out, line + '\n');
const server = http.createServer((request, response) => {
  seen(`200 ${request.method} ${request.url} HTTP/${request.httpVersion}`);
  request.on('error', () => {});
  request.resume().on('end', () => response.end(request.url));
});
server.on('clientError', (error, socket) => {
  if (error.code !== 'ECONNRESET') seen(`400 ${error.code}`);
  socket.destroy();
});
server.on('upgrade', (request, socket) => {
  seen(`101 ${request.method} ${request.url} HTTP/${request.httpVersion}`);
  socket.destroy();
});
server.on('connect', (request, socket) => {
  seen(`200 ${request.method} ${request.url} HTTP/${request.httpVersion}`);
  socket.destroy();
});
server.keepAliveTimeout = server.requestTimeout = 60000;
const [host, port] = address.split(':');
server.listen(Number(port), host);
