/**
 * What to write here for names of other servers: options of `Deno.serve`, `Bun.serve`, `node:https`,
 * Express, and of ESP-IDF's structures.
 *
 * @module
 */

const TLS = "write cert and key (clientAuth, alpnProtocols …) beside the other options";
const HANDLER = "give the handler as second argument, serve(options, handler)";
const CLIENT_AUTH = 'write clientAuth: { ca, mode: "required" }, or mode: "optional"';
const ERRORS = 'write server.onError(handler), or listen for "error" events';
const NOTHING = "leave it out: there is no such thing here";
const RUNTIME = "leave it out: the runtime's TLS decides it";
const ROUTES = "write server.route({ uri, method, handler }) for each";
const SYSTEM = "leave it out: the system's value applies, as node:net cannot set it";
const NO_LENGTH = "leave it out: text and bytes have a length";

const OTHER_SERVERS = {
  // Deno.serve, Bun.serve
  tls: TLS,
  handler: HANDLER,
  host: "write hostname",
  onListen: 'do it after await serve(), or listen for "start" events',
  onError: ERRORS,
  error: ERRORS,
  routes: ROUTES,
  static: "use serveFiles(), or server.route() for each",
  headers: "write responseFields",
  middleware: "write server.use((request, next) => next()) for each",
  websocket: "write server.route({ uri, websocket: { … } }), or call upgradeWebSocket()",
  development: NOTHING,
  idleTimeout: "write timeouts: { idleMs }, in ms",
  maxRequestBodySize: "write limits: { maxBodyBytes }",
  unix: "write path",
  transport: "leave it out: httpsd listens for TCP, or with path on a UNIX socket",
  certFile: "write cert, which takes a path too",
  keyFile: "write key, which takes a path too",
  certChain: "write cert",
  privateKey: "write key",
  certDer: "leave it out: cert says the same",
  alpn: "write alpnProtocols",
  serverName: "write identities: [{ cert, key, names }]",
  servername: "write identities: [{ cert, key, names }]",
  lowMemoryMode: NOTHING,
  h2: "write http2",
  h3: NOTHING,
  http3: NOTHING,
  // node:https, node:tls, node:http
  ca: CLIENT_AUTH,
  requestCert: CLIENT_AUTH,
  rejectUnauthorized: CLIENT_AUTH,
  ALPNProtocols: 'write alpnProtocols: ["http/1.1"]',
  ALPNCallback: "write certSelect, which may answer with alpnProtocols",
  SNICallback: "write certSelect, or identities",
  secureContext: TLS,
  secureProtocol: "write tlsVersion, or minVersion and maxVersion",
  secureOptions: RUNTIME,
  honorCipherOrder: RUNTIME,
  ecdhCurve: RUNTIME,
  sigalgs: RUNTIME,
  dhparam: RUNTIME,
  crl: "write verifyClient, and look at the list there",
  ticketKeys: "leave it out: tickets are for one process (see sessionTickets)",
  sessionTimeout: RUNTIME,
  sessionIdContext: RUNTIME,
  handshakeTimeout: "write timeouts: { handshakeMs }",
  headersTimeout: "write timeouts: { headersMs }",
  requestTimeout: "write timeouts: { requestMs }",
  keepAliveTimeout: "write timeouts: { idleMs }",
  keepAliveInitialDelay: "write keepAlive: { idleMs }",
  timeout: "write timeouts: { idleMs }, or requestMs or handlerMs there",
  connectionsCheckingInterval: NOTHING,
  insecureHTTPParser: "leave it out: requests are read strictly",
  maxHeaderSize: "write limits: { maxHeaderBytes }",
  maxHeadersCount: "write limits: { maxHeaderFields }",
  maxRequestsPerSocket: "write limits: { maxRequestsPerConnection }",
  noDelay: "leave it out: it is always on",
  trustProxy: "write proxyProtocol: { trustedProxies }",
  https: 'leave it out, or write transportMode: "insecure" for plain HTTP',
  http: 'write transportMode: "insecure"',
};

/**
 * Members of `httpd_config_t` and `httpd_ssl_config_t` that have another name here. In camelCase
 * `profile: "esp-idf"` takes those that have an option.
 */
const ORIGINAL = {
  httpd: "write its members beside the other options",
  servercert: "write cert",
  servercert_len: NO_LENGTH,
  prvtkey_pem: "write key",
  prvtkey_len: NO_LENGTH,
  server_key: "write key",
  cacert_pem: "write cacert",
  cacert_len: NO_LENGTH,
  client_cert_authmode_optional: 'write clientAuth: { ca, mode: "optional" }',
  port_secure: "write port",
  port_insecure: "write port",
  server_port: "write port",
  ctrl_port: NOTHING,
  user_cb: "write userCallback",
  ssl_userdata: "write tlsUserData",
  cert_select_cb: "write certSelect",
  alpn_protos: "write alpnProtocols",
  ciphersuites_list: "write ciphers",
  tls_handshake_timeout_ms: "write timeouts: { handshakeMs }",
  uri_match_fn: "write uriMatch",
  max_req_hdr_len: "write limits: { maxHeaderBytes }",
  max_uri_len: "write limits: { maxUriBytes }",
  max_open_sockets: "write limits: { maxConnections }",
  max_uri_handlers: "write limits: { maxRoutes }",
  max_resp_headers: "write limits: { maxResponseFields }",
  backlog_conn: "write limits: { backlog }",
  lru_purge_enable: "write limits: { lruPurge }",
  keep_alive_enable: "write keepAlive",
  keep_alive_idle: "write keepAlive: { idleMs }, in ms",
  keep_alive_interval: SYSTEM,
  keep_alive_count: SYSTEM,
  linger_timeout: "write timeouts: { lingerMs }, in ms",
  enable_so_linger: "write timeouts: { lingerMs }",
  recv_wait_timeout: "write timeouts: { receiveMs }, in ms",
  send_wait_timeout: "write timeouts: { sendMs }, in ms",
  global_user_ctx: "write globalUserContext",
  global_user_ctx_free_fn: "write globalUserContextFree",
  global_transport_ctx: "write tlsUserData, which hooks are given",
  global_transport_ctx_free_fn: NOTHING,
  if_name: "write hostname, an address of the interface",
  ecdsa_key_efuse_blk_high: NOTHING,
  ecdsa_curve: NOTHING,
  task_caps: NOTHING,
  task_priority: NOTHING,
  stack_size: NOTHING,
  core_id: NOTHING,
};

/** Names of 0.1 before options were grouped, which do not come from the original. */
const UNGROUPED = {
  maxReqFields: "write limits: { maxHeaderFields }",
  maxDrainBytes: "write limits: { maxDiscardedBytes }",
  minBodyRate: "write limits: { minBodyBytesPerSecond }",
  handshakeTimeoutMs: "write timeouts: { handshakeMs }",
  headersTimeoutMs: "write timeouts: { headersMs }",
  recvWaitTimeoutMs: "write timeouts: { receiveMs }",
  requestTimeoutMs: "write timeouts: { requestMs }",
  handlerTimeoutMs: "write timeouts: { handlerMs }",
  sendWaitTimeoutMs: "write timeouts: { sendMs }",
  idleTimeoutMs: "write timeouts: { idleMs }",
};

/** The original's names as they are, and in camelCase. */
function originalNames(): Record<string, string> {
  return Object.fromEntries(
    Object.entries(ORIGINAL).flatMap(([name, advice]) => [
      [name, advice],
      [name.replaceAll(/_(\w)/g, (_, letter: string) => letter.toUpperCase()), advice],
    ]),
  );
}

/** Makes the table of options of other servers, and what to write for them in a server's options. */
export function serverNames(): Record<string, string> {
  return { ...OTHER_SERVERS, ...originalNames(), ...UNGROUPED };
}

/** What other servers call the names of an identity, and what to write for them. */
export const HOST_NAMES: Readonly<Record<string, string>> = {
  serverName: 'write names: ["…"]',
  servername: 'write names: ["…"]',
  hostname: 'write names: ["…"]',
  host: 'write names: ["…"]',
  domain: 'write names: ["…"]',
  domains: 'write names: ["…"]',
  sni: 'write names: ["…"]',
  identities: "write each identity beside the others, not inside",
};

/** Members of other routers' routes, and what to write for them. */
export const ROUTE_NAMES: Readonly<Record<string, string>> = {
  path: "write uri",
  url: "write uri",
  pattern: "write uri",
  pathname: "write uri",
  route: "write uri",
  methods: 'write one route for each method, or method: "ANY"',
  fetch: "write handler",
  handle: "write handler",
  callback: "write handler",
  user_ctx: "write context",
  is_websocket: "write websocket: { … } in place of handler",
  upgrade: "write websocket: { … } in place of handler",
};

/** Options of other WebSocket servers, and what to write for them. */
export const WEBSOCKET_NAMES: Readonly<Record<string, string>> = {
  protocol: 'write protocols: ["…"]',
  supported_subprotocol: 'write protocols: ["…"]',
  handleProtocols: 'write protocols: ["…"]',
  perMessageDeflate: "write deflate",
  compression: "write deflate",
  idleTimeout: "write timeouts: { idleMs } or pingPeriodMs, in ms",
  maxPayload: "write limits: { maxPayloadBytes }",
  maxPayloadLength: "write limits: { maxPayloadBytes }",
  backpressureLimit: "write limits: { maxBufferedBytes }",
  closeOnBackpressureLimit: "leave it out: more than limits.maxBufferedBytes closes",
  sendPings: "write pingPeriodMs: Infinity for none",
  publishToSelf: "give broadcast() a filter",
  drain: "await ws.send()",
  open: "write onOpen",
  message: "write onMessage",
  close: "write onClose",
  error: "write onError",
  ping: "write onPing",
  pong: "write onPong",
  upgrade: "write onUpgrade",
  verifyClient: "write onUpgrade, and return a Response to refuse",
  ws_pre_handshake_cb: "write onUpgrade",
  ws_post_handshake_cb: "write onOpen",
  handle_ws_control_frames: "write manualControlFrames",
  // httpsd 0.1, before options were grouped
  minMessageRate: "write limits: { minMessageBytesPerSecond }",
  messageTimeoutMs: "write timeouts: { messageMs }",
  idleTimeoutMs: "write timeouts: { idleMs }",
  closeTimeoutMs: "write timeouts: { closeMs }",
  upgradeTimeoutMs: "write timeouts: { upgradeMs }",
};
