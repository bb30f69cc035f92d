"""The command line, driven once in a real terminal."""

import os
import pty
import select
import sys
import time

RECIPE = """
output: {output}
model: {{new: {{hidden_size: 32, num_layers: 1, num_heads: 2, vocab_size: 320, context_length: 128}}, device: cpu}}
data: {{source: world, eval: 0.25, num_rows: 64}}
phases:
  - name: sft
    data: {{kind: demonstrations}}
    optimizer: {{method: sft, lr: 3.0e-3, steps: 5, batch_size: 8}}
report:
  baseline: sft
  reward: [{{use: "alignlab.data.world:true_reward_function", name: true reward}}]
  data: {{kind: prompts}}
  num_prompts: 8
  max_new_tokens: 8
"""


def in_a_terminal(*arguments: str) -> tuple[int, str]:
    """Run `alignlab` with a terminal of 120 columns; return its exit code and all that it wrote."""
    program = "import sys; from alignlab.cli.main import main; sys.exit(main())"
    child, terminal = pty.fork()
    if child == 0:
        os.environ.update(COLUMNS="120", LINES="40", TERM="xterm-256color")
        os.execv(sys.executable, [sys.executable, "-c", program, *arguments])
    written = b""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if select.select([terminal], [], [], 1)[0]:
            try:
                chunk = os.read(terminal, 65536)
            except OSError:  # Linux's way to say that the other side is closed
                break
            if not chunk:
                break
            written += chunk
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), written.decode()


def test_a_run_shows_a_bar_and_the_numbers_that_matter_and_ends_in_a_table(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE.format(output=tmp_path / "run"))
    code, shown = in_a_terminal("run", str(recipe))
    assert code == 0, shown
    assert "\x1b[" in shown  # it draws
    assert "━" in shown
    assert "5/5" in shown
    assert "loss" in shown
    assert "true reward" in shown
    assert "Warning" not in shown


def test_an_error_is_three_lines_without_a_traceback(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE.format(output=tmp_path / "run").replace("lr:", "learing_rate:"))
    code, shown = in_a_terminal("run", str(recipe))
    assert code == 2
    assert "there is no setting 'learing_rate'" in shown
    assert "did you mean 'lr'?" in shown
    assert "recipe.yaml, line 8" in shown
    assert "Traceback" not in shown
