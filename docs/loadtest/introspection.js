// What nginx's directives alone can't do: judge an introspection by its body.
import crypto from 'crypto';

// RFC 6750 §2.1
const BEARER = /^bearer +([A-Za-z0-9._~+\/-]+=*)$/i;

function token(r) {
    const found = BEARER.exec(r.headersIn['Authorization'] || '');
    return found ? found[1] : '';
}

// The cache's key: nginx writes keys into its files, and a token doesn't belong there.
function digest(r) {
    return crypto.createHash('sha256').update(token(r)).digest('hex');
}

function form(r) {
    return `token=${encodeURIComponent(token(r))}&token_type_hint=access_token`;
}

async function check(r) {
    if (!token(r)) {
        refuse(r, 'Bearer');
        return;
    }
    const reply = await r.subrequest('/_introspect');
    if (reply.status != 200) {
        r.return(500); // says nothing of the token, so it must not be a 401
    } else if (JSON.parse(reply.responseText).active === true) {
        r.return(204);
    } else {
        refuse(r, 'Bearer error="invalid_token"');
    }
}

function refuse(r, challenge) {
    r.headersOut['WWW-Authenticate'] = challenge;
    r.return(401);
}

export default { check, digest, form };
