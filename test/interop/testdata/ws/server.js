// An app that speaks WebSocket: it says back what it hears, and closes as it is
// asked to. It prints what it was told of each caller.
const { WebSocketServer } = require('ws');
const [host, port] = process.argv[2].split(':');
const server = new WebSocketServer({
  host, port: Number(port), perMessageDeflate: true, maxPayload: 64 << 20,
  handleProtocols: offered => (offered.has('chat') ? 'chat' : false),
});
server.on('connection', (socket, request) => {
  console.log(`open ${request.url} ${request.headers['everyhop-caller']} ${request.headers['x-secret'] || 'nothing'}`);
  socket.on('message', (message, binary) => {
    if (!binary && message.toString() === 'close 4001') socket.close(4001, 'as asked');
    else if (!binary && message.toString() === 'terminate') socket.terminate();
    else socket.send(message, { binary });
  });
  socket.on('ping', payload => console.log(`ping ${payload}`));
  socket.on('close', code => console.log(`close ${code}`));
  socket.on('error', error => console.log(`error ${error.code}`));
});
