"""The commands about recipe bundles, under `recipe`: `freeze`, `key`, `import`, `export`, `release`, `withdraw`, `list`."""

from __future__ import annotations

import contextlib
import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from station.bundle import (
    SUFFIX,
    Bundle,
    bundle_of,
    check_signer,
    is_bundle,
    load_private_key,
    look_into,
    new_private_key,
    prove,
    public_key_of,
    read_bundle_file,
    signed,
)
from station.cli.options import config_option, database_url_or_default, needed_config_option
from station.cli.records import NotBlank, by_option, db_option
from station.config import load_config
from station.errors import ConfigurationError

if TYPE_CHECKING:
    from station.adapters.records import BundleEvent, Database, KeptBundle

reason_option = click.option("--reason", required=True, type=NotBlank(), metavar="WHY", help="Why; goes on record.")
bundle_argument = click.argument("bundle", metavar="BUNDLE")


@click.command("freeze")
@click.argument("file", type=click.Path(path_type=Path), metavar="RECIPE")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--sign", "key", type=click.Path(path_type=Path), metavar="KEY", help="Sign it with this private key.")
def recipe_freeze(file: Path, out: Path, key: Path | None) -> None:
    """Make one immutable bundle OUT of RECIPE and everything it names; of a bundle, with --sign, a signed one."""
    if not is_bundle(out):
        raise click.UsageError(f"OUT: a bundle is called SOMETHING{SUFFIX}")
    private = load_private_key(key) if key is not None else None
    bundle = _frozen(file)
    if private is not None:
        bundle = signed(bundle, private)
    _write_new(out, bundle.content)
    click.echo(f"{out}: {bundle.title}, {len(bundle.manifest.parts)} parts, {len(bundle.content)} bytes")
    click.echo(f"  bundle     {bundle.sha256}")
    click.echo(f"  signed by  {bundle.signed_by or 'nobody'}")


@click.command("key")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--new", "make", is_flag=True, help="Make it first; FILE must not be there yet.")
def recipe_key(file: Path, make: bool) -> None:  # noqa: FBT001 - click passes flags so
    """Print the public key, for work.signers, of the private key in FILE."""
    key = new_private_key(file) if make else load_private_key(file)
    click.echo(public_key_of(key))


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path), metavar="BUNDLE")
@needed_config_option
@by_option
@click.option("--reason", type=NotBlank(), default="imported", metavar="WHY", help="Why; goes on record.")
def recipe_import(file: Path, config_path: Path, person: str, reason: str) -> None:
    """Take a bundle, from a USB stick for example, into the records and beside the configuration; a draft from then on."""
    from station.orders import bundle_row

    config = load_config(config_path)
    # Once: a stick is pulled at any moment, and what was checked has to be what is kept.
    bundle = read_bundle_file(file)
    check_signer(bundle.signed_by, config.work.signers, file=str(file))
    prove(bundle, file=str(file))
    with _books(config.database_url, make=True) as database:
        database.shelf.keep(bundle_row(bundle, person, reason))
        kept = database.shelf.find(bundle.sha256)
    place = _put_beside(config_path, bundle)
    click.echo(f"{bundle.title} is bundle {bundle.short}, {kept.state}, by {kept.person}")
    click.echo(f"  {place}")


@click.command("export")
@bundle_argument
@click.argument("out", type=click.Path(path_type=Path))
@config_option
@db_option
def recipe_export(bundle: str, out: Path, config_path: Path | None, database_url: str | None) -> None:
    """Write a bundle that the records keep, byte for byte, to OUT. BUNDLE is the first digits of its sha256."""
    if not is_bundle(out):
        raise click.UsageError(f"OUT: a bundle is called SOMETHING{SUFFIX}")
    with _books(database_url_or_default(database_url, config_path)) as database:
        kept = database.shelf.find(bundle)
        content = database.shelf.content(kept.sha256)
    _write_new(out, content)
    click.echo(f"{out}: bundle {kept.sha256}, {kept.state}")


@click.command("release")
@bundle_argument
@by_option
@reason_option
@click.option("--first-article", "job", metavar="JOB", help="The job whose board was looked at; it ended in PASS.")
@config_option
@db_option
def recipe_release(
    bundle: str, person: str, reason: str, job: str | None, config_path: Path | None, database_url: str | None
) -> None:
    """Let lots be made of a bundle. BUNDLE is the first digits of its sha256."""
    from station.adapters.records import BundleEvent

    _say(bundle, BundleEvent.RELEASE, person, reason, job, database_url_or_default(database_url, config_path))


@click.command("withdraw")
@bundle_argument
@by_option
@reason_option
@config_option
@db_option
def recipe_withdraw(bundle: str, person: str, reason: str, config_path: Path | None, database_url: str | None) -> None:
    """Never let a lot be made of a bundle again. BUNDLE is the first digits of its sha256."""
    from station.adapters.records import BundleEvent

    _say(bundle, BundleEvent.WITHDRAW, person, reason, None, database_url_or_default(database_url, config_path))


@click.command("list")
@config_option
@db_option
@click.option("--json", "as_json", is_flag=True)
def recipe_list(
    config_path: Path | None,
    database_url: str | None,
    as_json: bool,  # noqa: FBT001 - click passes flags so
) -> None:
    """List the bundles that the records keep, newest first, with what people said of each."""
    with _books(database_url_or_default(database_url, config_path)) as database:
        found = database.shelf.kept()
    if as_json:
        click.echo(json.dumps([_as_json(one) for one in found], indent=2))
        return
    for one in found:
        signed_by = f", signed by {one.signed_by}" if one.signed_by else ""
        click.echo(f"{one.short}  {one.state:<9}  {one.name} {one.version} [{one.recipe_hash[:8]}]{signed_by}")
        for said in one.sayings:
            article = f" (first article {said.first_article_job})" if said.first_article_job else ""
            click.echo(f"    {said.happened_at:%Y-%m-%d %H:%M} {said.event}, {said.person}: {said.reason}{article}")
    if not found:
        click.echo("no bundle is kept")


COMMANDS = (
    recipe_freeze,
    recipe_key,
    recipe_import,
    recipe_export,
    recipe_release,
    recipe_withdraw,
    recipe_list,
)


def _frozen(file: Path) -> Bundle:
    if is_bundle(file):
        return read_bundle_file(file)
    bundle = bundle_of(look_into(file))
    assert bundle is not None  # noqa: S101 - it was loaded from a file
    return bundle


def _write_new(out: Path, content: bytes) -> None:
    """Write a file that is not there yet, whole and on disk."""
    try:
        with out.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError:
        raise ConfigurationError(
            file=str(out), problem="exists already", fix="name another file, or delete it"
        ) from None
    except OSError as error:
        with contextlib.suppress(OSError):
            out.unlink()
        raise ConfigurationError(
            file=str(out), problem=f"cannot be written ({error.strerror})", fix="name another file"
        ) from None


def _put_beside(config_path: Path, bundle: Bundle) -> Path:
    """Write the bundle to `recipes` beside the configuration, under a name for people, at once or not at all; return where."""
    title = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{bundle.manifest.name}-{bundle.manifest.version}").lstrip(".-")
    directory = config_path.absolute().parent / "recipes"
    place = directory / f"{title}-{bundle.short}{SUFFIX}"
    beside = directory / f".{place.name}.new"
    try:
        directory.mkdir(exist_ok=True)
        beside.unlink(missing_ok=True)
        if not place.exists() or place.read_bytes() != bundle.content:
            _write_new(beside, bundle.content)
            beside.replace(place)
    except OSError as error:
        raise ConfigurationError(
            file=str(place),
            problem=f"cannot be written ({error.strerror})",
            fix="run as root: sudo station recipe import",
        ) from None
    return place


def _books(database_url: str, *, make: bool = False) -> Database:
    """Open records; without `make` only those that exist: nothing shall be said into a new file beside the real one."""
    from station.adapters.records import Database, require_file

    if not make:
        require_file(database_url)
    return Database.open(database_url)


def _say(key: str, event: BundleEvent, person: str, reason: str, job: str | None, database_url: str) -> None:
    with _books(database_url) as database:
        kept = database.shelf.say(key, event, person=person, reason=reason, first_article_job=job)
    click.echo(
        f"{kept.name} {kept.version} [{kept.recipe_hash[:8]}], bundle {kept.short}, is {kept.state}, by {person}"
    )


def _as_json(one: KeptBundle) -> dict[str, object]:
    return {
        "bundle": one.sha256,
        "name": one.name,
        "version": one.version,
        "recipe_hash": one.recipe_hash,
        "state": one.state,
        "signed_by": one.signed_by or None,
        "size_bytes": one.size_bytes,
        "added_at": one.added_at.isoformat(),
        "person": one.person,
        "events": [
            {
                "event": said.event,
                "person": said.person,
                "reason": said.reason,
                "first_article_job": said.first_article_job or None,
                "happened_at": said.happened_at.isoformat(),
            }
            for said in one.sayings
        ],
    }
