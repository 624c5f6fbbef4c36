// A client that sends messages of all sizes and kinds, and prints what came of it.
// client.js URL [waits]: with waits it stays until it is closed.
const { WebSocket } = require('ws');
const crypto = require('crypto');
const socket = new WebSocket(process.argv[2], 'chat', {
  perMessageDeflate: true, maxPayload: 64 << 20, headers: { 'x-secret': 'spoofed', 'everyhop-caller': 'spoofed' },
});
const next = event => new Promise(resolve => socket.once(event, (...what) => resolve(what)));
const fail = error => { console.log(`error ${error.message}`); process.exit(1); };
socket.on('error', fail);
socket.on('unexpected-response', (request, response) => { console.log(`refused ${response.statusCode}`); process.exit(0); });

async function echo(message) {
  const answered = next('message');
  socket.send(message);
  const [got, binary] = await answered;
  if (binary !== Buffer.isBuffer(message) || !got.equals(Buffer.from(message))) throw new Error('another message came back');
}

async function talk() {
  await next('open');
  if (socket.protocol !== 'chat' || !socket.extensions.startsWith('permessage-deflate')) throw new Error('sec-websocket-* did not pass');
  for (const size of [0, 1, 125, 126, 65535, 65536, 5 << 20]) {
    await echo(crypto.randomBytes(size));
    await echo('ä'.repeat(size));
  }
  const pong = next('pong');
  socket.ping('are you there');
  if ((await pong)[0].toString() !== 'are you there') throw new Error('another pong');
  console.log('talked');
  const closed = next('close');
  if (process.argv[3] !== 'waits') socket.send('close 4001');
  const [code, why] = await closed;
  console.log(`closed ${code} ${why}`);
}
talk().then(() => process.exit(0), fail);
