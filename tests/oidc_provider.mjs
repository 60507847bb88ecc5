// oidc-provider on a free port of the loopback interface, for test_oauth_oracles.py. It prints one
// line of JSON: its port, and the codes that a user has granted. It ends with its standard input.
import { createRequire } from 'node:module';
import { createServer } from 'node:http';
import { pathToFileURL } from 'node:url';

const require = createRequire(import.meta.url); // which looks in NODE_PATH too
const { default: Provider } = await import(pathToFileURL(require.resolve('oidc-provider')));

const server = createServer().listen(0, '127.0.0.1');
await new Promise((done) => server.once('listening', done));
const { port } = server.address();

const redirect = 'https://client.example/back';
const secret = 'a-secret-that-is-long-enough-for-hs256';
const client = (id, method) => ({
  client_id: id,
  client_secret: secret,
  token_endpoint_auth_method: method,
  grant_types: ['client_credentials', 'authorization_code', 'refresh_token'],
  redirect_uris: [redirect],
  response_types: ['code'],
});

// Its advice for production isn't for a test.
console.info = console.warn = () => {};
const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: [
    client('basic-app', 'client_secret_basic'),
    client('svc+prod@example.com', 'client_secret_basic'),
    client('svc+prod', 'client_secret_basic'),
    client('post-app', 'client_secret_post'),
    client('jwt-app', 'client_secret_jwt'),
  ],
  scopes: ['openid', 'offline_access', 'read', 'write'],
  features: {
    clientCredentials: { enabled: true },
    introspection: { enabled: true },
    revocation: { enabled: true },
    devInteractions: { enabled: false },
  },
  pkce: { required: () => false },
  issueRefreshToken: async (_ctx, _client, code) => code.scopes.has('offline_access'),
  findAccount: async (_ctx, id) => ({ accountId: id, claims: async () => ({ sub: id }) }),
});
server.on('request', provider.callback());

async function code(clientId, accountId, scope) {
  const grant = new provider.Grant({ clientId, accountId });
  grant.addOIDCScope(scope);
  const grantId = await grant.save();
  return new provider.AuthorizationCode({
    accountId,
    client: await provider.Client.find(clientId),
    expiresWithSession: false,
    grantId,
    gty: 'authorization_code',
    redirectUri: redirect,
    scope,
  }).save();
}

const codes = [
  await code('basic-app', 'alice', 'openid offline_access read write'),
  await code('post-app', 'alice', 'openid'),
];
console.log(JSON.stringify({ port, codes, redirect, secret }));
process.stdin.resume().on('end', () => process.exit());
