// A real OpenID Connect provider (npm `oidc-provider`, with its development login) for the tests of single sign-on.
//
// Arguments: the folder of node modules, and a JSON object: `redirect`, `secret`, `post` (the client sends its secret in
// the body), `algorithm` (of ID tokens), `inToken` (claims are in the ID token already). Prints `{"issuer": …}` once it
// listens. `POST /control` with a JSON object changes what it does from then on:
//   people   what is known of each login: `{"ann": {"preferred_username": "ann", "groups": ["qa"]}}`
//   forge    what is wrong with the ID tokens that it hands out: nonce, audience, issuer, expired, unsigned, key, hash
//   rotated  whether ID tokens are signed with a key that it published only now
//   issuer   what its discovery document calls it
import { createServer } from 'node:http';
import { createHash, createPrivateKey, generateKeyPairSync, sign } from 'node:crypto';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const [modules, given] = process.argv.slice(2);
const options = JSON.parse(given);
const { Provider } = await import(pathToFileURL(join(modules, 'oidc-provider/lib/index.js')));

const state = { people: {}, forge: '', rotated: false, issuer: '' };

function key(kid, use = 'sig') {
  const pair = options.algorithm === 'ES256'
    ? generateKeyPairSync('ec', { namedCurve: 'P-256' })
    : generateKeyPairSync('rsa', { modulusLength: 2048 });
  return { ...pair.privateKey.export({ format: 'jwk' }), kid, use, alg: options.algorithm };
}

function published({ kty, kid, use, alg, n, e, crv, x, y }) {
  return { kty, kid, use, alg, n, e, crv, x, y };
}

const own = key('own');
const later = key('later');
const strangers = { ...key('own') };

const encoded = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');

function signed(header, claims, jwk) {
  const text = `${encoded({ ...header, kid: jwk.kid })}.${encoded(claims)}`;
  const made = sign('sha256', Buffer.from(text), { key: createPrivateKey({ key: jwk, format: 'jwk' }), dsaEncoding: 'ieee-p1363' });
  return `${text}.${made.toString('base64url')}`;
}

// The same token with something else in it, and a signature that fits.
function forged(token, how) {
  const [header, claims] = token.split('.').slice(0, 2).map((part) => JSON.parse(Buffer.from(part, 'base64url')));
  switch (how) {
    case 'nonce': return signed(header, { ...claims, nonce: 'of another login' }, own);
    case 'audience': return signed(header, { ...claims, aud: 'another-application' }, own);
    case 'issuer': return signed(header, { ...claims, iss: 'https://evil.example' }, own);
    case 'expired': return signed(header, { ...claims, iat: claims.iat - 7200, exp: claims.exp - 7200 }, own);
    case 'unsigned': return `${encoded({ alg: 'none' })}.${encoded(claims)}.`;
    case 'key': return signed(header, claims, strangers);
    case 'hash': return signed(header, { ...claims, at_hash: createHash('sha256').update('another').digest('base64url').slice(0, 22) }, own);
    case 'none': return undefined;
    default: throw new Error(`no such forgery: ${how}`);
  }
}

const server = createServer();
await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
const issuer = `http://127.0.0.1:${server.address().port}`;
const client = {
  client_id: 'kennel',
  client_secret: options.secret,
  redirect_uris: [options.redirect],
  grant_types: ['authorization_code'],
  response_types: ['code'],
  id_token_signed_response_alg: options.algorithm,
  token_endpoint_auth_method: options.post ? 'client_secret_post' : 'client_secret_basic',
};
const provider = new Provider(issuer, {
  clients: [client],
  jwks: { keys: [own] },
  clientAuthMethods: [client.token_endpoint_auth_method],
  cookies: { keys: ['only for tests'] },
  scopes: ['openid', 'profile', 'email', 'groups'],
  claims: { openid: ['sub'], profile: ['preferred_username'], email: ['email'], groups: ['groups', 'realm_access'] },
  conformIdTokenClaims: !options.inToken,
  pkce: { required: () => true },
  findAccount: (_, accountId) => ({
    accountId,
    claims: () => ({ sub: accountId, ...state.people[accountId] }),
  }),
});
provider.use(async (context, next) => {
  await next();
  if (context.path === '/token' && context.body?.id_token) {
    if (state.rotated) {
      const [header, claims] = context.body.id_token.split('.').slice(0, 2).map((part) => JSON.parse(Buffer.from(part, 'base64url')));
      context.body = { ...context.body, id_token: signed(header, claims, later) };
    } else if (state.forge) {
      context.body = { ...context.body, id_token: forged(context.body.id_token, state.forge) };
    }
  }
  if (context.path === '/jwks' && state.rotated) context.body = { keys: [published(later)] };
  if (context.path === '/.well-known/openid-configuration' && state.issuer) context.body = { ...context.body, issuer: state.issuer };
});

const answer = provider.callback();
server.on('request', (request, response) => {
  if (request.url !== '/control') return answer(request, response);
  let text = '';
  request.on('data', (part) => { text += part; });
  request.on('end', () => { Object.assign(state, JSON.parse(text)); response.end('{}'); });
});
console.log(JSON.stringify({ issuer }));
