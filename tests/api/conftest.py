import time

import pytest

from corral.api.app import AdminApi
from corral.credentials import new_secret
from corral.gateway.keyring import Keyring
from corral.gateway.server import Gateway
from corral.launcher.keys import KeyWatch
from corral.store.keys import KeyStore


@pytest.fixture
def keys(tmp_path):
    with KeyStore(time.time, tmp_path) as store:
        yield store


@pytest.fixture
def admin(keys):
    """The secret of an admin key; asked for before the gateway, so that it is there when that starts."""
    secret = new_secret()
    keys.create("root", secret, admin=True)
    return secret


@pytest.fixture
async def gateway(keys, tmp_path):
    keyring = Keyring()
    watch = KeyWatch(keys, keyring)
    watch.look()
    gateway = Gateway(keys=keyring, mounts={"/api": AdminApi(tmp_path).answer})
    await gateway.start(port=0)
    gateway.watch = watch
    yield gateway
    await gateway.stop(grace=0)
