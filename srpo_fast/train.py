"""SRPO, in the order it happens. Run by torchrun; every rank runs all of this.

    base policy -> its answers -> a teacher's reflections -> cold-start SFT              (stage 1)
    prompts -> groups of completions -> rewards -> advantages -> update -> weight sync   (stage 2, one step)

What this GRPO leaves out: a critic, and sampling by stale weights (the engine is synced every step). A reference policy
and a second log-prob pass are there only when the config has a KL term or several updates a step; SRPO's has neither.
"""

import math
import sys
from collections.abc import Sequence
from functools import partial

import torch

from srpo_fast import checkpoint
from srpo_fast.agreement import check_agreement
from srpo_fast.answer_format import AnswerFormat, one_answer_format, rollout_format
from srpo_fast.batch import Group, HeldOut, Prompt, Question
from srpo_fast.checkpoint import Checkpoint
from srpo_fast.config import Config, UserError, config_from_arguments
from srpo_fast.deadline import doing, watch
from srpo_fast.ending import exit_code
from srpo_fast.evaluation.heldout import evaluate
from srpo_fast.evaluation.in_loop import measure, open_benchmarks
from srpo_fast.grading.grader import Grader
from srpo_fast.group_collection import collect_step, rollout_sampling
from srpo_fast.monitor.run_monitor import Monitor, open_monitor
from srpo_fast.monitor.step_metrics import rollout_metrics, validation_metrics
from srpo_fast.monitor.summary import Stage
from srpo_fast.packing import make_packer
from srpo_fast.parallel import Parallel, agree, from_main, start, stop
from srpo_fast.policy import Policy
from srpo_fast.policy_update import start_updates, update_policy
from srpo_fast.prompt_source import PromptSource, encode_usable
from srpo_fast.prompts import PromptEncoder
from srpo_fast.quarantine import Quarantine
from srpo_fast.reflection import cold_start
from srpo_fast.reflection.policy_answers import examples_of_policy
from srpo_fast.rewards.watch import RewardWatch
from srpo_fast.rollout import Features, Progress, Sampling, VllmEngine, require_device, sample_groups
from srpo_fast.sequences import training_sequences
from srpo_fast.sources import open_questions, resolve_model
from srpo_fast.weight_sync import WeightSync, fill_engine


class Trainer:
    """The parts of a run and what is done with them, top to bottom in the order of time."""

    def __init__(self, config: Config, parallel: Parallel, monitor: Monitor) -> None:
        self.config, self.parallel, self.monitor = config, parallel, monitor
        model_dir = resolve_model(config, parallel, monitor)
        with monitor.phase("start", 3, label="policy and engine") as bar:
            file = monitor.run.quarantine if parallel.is_main else None
            self.quarantine = Quarantine(file, config.data.bad_records, config.data.max_bad_share, monitor.note)
            self.train = open_questions(config, "train", self.quarantine, parallel)
            self.validation = open_questions(config, "validation", self.quarantine, parallel)
            self.heldout = open_questions(config, "heldout", self.quarantine, parallel)
            self.benchmarks = open_benchmarks(config, parallel, monitor.note)
            self.best_score = from_main(lambda: checkpoint.best_score(monitor.run.checkpoints), parallel)
            self.encoder = PromptEncoder.from_pretrained(model_dir, config.data.max_prompt_tokens)
            grader = Grader(config.reward)
            self.one_answer = one_answer_format(config, self.encoder, grader)  # stage 1
            self.rollout_format = agree(lambda: rollout_format(config, self.encoder, grader), parallel)  # and after it
            self.reward_watch = RewardWatch(config.reward, monitor.note)
            self.prompts = PromptSource(
                self.train, self.encoder, self.rollout_format.system_prompt, seed=config.run.seed,
                per_step=config.data.prompts_per_step, quarantine=self.quarantine, parallel=parallel,
            )  # fmt: skip
            bar.advance()
            self.policy = Policy(
                model_dir, dtype=config.model.dtype, seed=config.run.seed, parallel=parallel,
                banned_ids=self.encoder.banned_ids, temperature=config.rollout.temperature,
                recompute=config.model.recompute, train_vision=config.model.train_vision,
            )  # fmt: skip
            bar.advance()
            self.engine = VllmEngine(
                model_dir, config.rollout, dtype=config.model.dtype, seed=config.run.seed, parallel=parallel,
                max_prompt_tokens=config.data.max_prompt_tokens, banned_ids=self.encoder.banned_ids,
                decode=self.encoder.decode, images=Features(self.policy.vision.features_for_engine),
                fill=partial(fill_engine, self.policy, config.rollout.weights), lengths=self.prompts.lengths,
            )  # fmt: skip
            self.weight_sync = WeightSync(self.policy, self.engine, config.rollout, parallel)
            self.weight_sync.run()
            bar.advance()
        self.pack = make_packer(
            model_dir, self.encoder, config.optimizer, parallel, train_vision=config.model.train_vision
        )
        monitor.note(check_agreement(self.policy, self.engine, self.encoder, self.pack, config, parallel))

    def run(self) -> None:
        first_step = self.resume()
        if first_step is None:
            self.monitor.resume_at(0)
            self.evaluate("base", self.one_answer)
            if self.config.cold_start:
                self.stage_1()
                self.evaluate("sft", self.rollout_format)
            first_step = 0
            self.save(first_step)
        self.stage_2(first_step)
        self.evaluate("srpo", self.rollout_format)
        self.policy.source.export(self.config.run.dir / "hf", self.policy.hf_weights(), writes=self.parallel.is_main)
        self.monitor.finish()
        self.engine.close()

    # --- stage 1: the form of reflection ---

    def stage_1(self) -> None:
        config, settings = self.config, self.config.cold_start
        assert settings is not None
        file = settings.data or examples_of_policy(
            config, self.encoder, partial(self.sample, answer_format=self.one_answer), self.parallel, self.monitor
        )
        sequences = cold_start.open_sequences(file, config, self.encoder, self.parallel, self.monitor.note)
        updates = cold_start.num_updates(len(sequences), settings)
        self.engine.phases.begin_training()
        with self.monitor.phase("stage_1", updates, label="stage 1: SFT") as bar:
            left_out = cold_start.run_cold_start(
                self.policy, sequences, self.pack, settings, config.optimizer, bar.advance
            )
        if left_out:
            self.monitor.note(f"{len(left_out):,} examples are left out; the first: {min(left_out.items())[1]}")
        self.weight_sync.run()

    # --- stage 2: reflection-aware RL ---

    def stage_2(self, first_step: int) -> None:
        config = self.config
        if first_step == 0:
            start_updates(self.policy, config)
        with self.monitor.phase("stage_2", config.steps, done=first_step, label="stage 2"):
            for step in range(first_step, config.steps):
                with doing(f"step {step}"):
                    metrics, groups = self.step(step)
                if config.evaluation.every and (step + 1) % config.evaluation.every == 0:
                    metrics |= self.validate(step)
                score = metrics.get(config.evaluation.keep_best or "")
                is_best = score is not None and score > self.best_score
                self.monitor.log_step(step, metrics, groups)
                self.reward_watch.look(step, groups)
                if (step + 1) % config.save_every == 0 or step + 1 == config.steps or is_best:
                    self.save(step + 1, score)

    def step(self, step: int) -> tuple[dict[str, float], list[Group]]:
        config, timer = self.config, self.monitor.timer
        with timer("rollout"):
            sample = partial(self.sample, sampling=rollout_sampling(config, step), answer_format=self.rollout_format)
            collected = collect_step(self.prompts, sample, config, timer)
        with timer("advantage"):
            sequences = training_sequences(collected.kept, config.advantage, config.rollout.max_tokens)
        with timer("update"):
            self.engine.phases.begin_training()
            trained = update_policy(self.policy, sequences, self.pack, config, step)
        with timer("sync"):
            self.weight_sync.run()
        metrics = rollout_metrics(collected.groups, collected.kept_P, self.parallel.engines) | trained
        metrics |= collected.metrics | self.engine.phases.metrics() | {"data/quarantined": float(len(self.quarantine))}
        return metrics, list(collected.groups)

    # --- what both stages use ---

    def encode(self, questions: Sequence[Question], answer_format: AnswerFormat) -> list[Prompt]:
        """The prompts of those questions that can be used."""
        return encode_usable(
            questions, self.encoder, answer_format.system_prompt, quarantine=self.quarantine, parallel=self.parallel
        )

    def sample(
        self, prompts: Sequence[Prompt | Group], sampling: Sampling, answer_format: AnswerFormat,
        progress: Progress | None = None,
    ) -> list[Group]:  # fmt: skip
        return sample_groups(
            self.engine, prompts, sampling, answer_format.score, policy_version=self.policy.version,
            parallel=self.parallel, progress=progress,
        )  # fmt: skip

    def evaluate(self, stage: Stage, answer_format: AnswerFormat) -> None:
        questions = self.heldout[: self.config.evaluation.questions]
        if not questions:
            return
        with self.monitor.phase("evaluation", 2 * len(questions), label=f"held-out, {stage}") as bar:
            self.monitor.log_heldout(stage, self._measure(questions, answer_format, "heldout", bar.advance))

    def validate(self, step: int) -> dict[str, float]:
        """Figures of the validation questions and of the benchmarks, whichever the config names."""
        questions = self.validation[: self.config.evaluation.validation_questions]
        total = 2 * len(questions) + sum(len(opened.items) for opened in self.benchmarks)
        metrics: dict[str, float] = {}
        with self.monitor.phase("evaluation", total, label=f"validation, step {step + 1}") as bar:
            if questions:
                metrics |= validation_metrics(self._measure(questions, self.rollout_format, "validation", bar.advance))
            for opened in self.benchmarks:
                metrics |= measure(
                    opened, self.engine, self.encoder, self.rollout_format.system_prompt, self.config, self.parallel,
                    bar.advance,
                )  # fmt: skip
        return metrics

    def _measure(
        self, questions: Sequence[Question], answer_format: AnswerFormat, split: str, progress: Progress
    ) -> HeldOut:
        return evaluate(
            self.engine, self.encode(questions, answer_format), answer_format,
            max_tokens=self.config.rollout.max_tokens, stream=(self.config.run.seed, split),
            policy_version=self.policy.version, parallel=self.parallel, progress=progress,
        )  # fmt: skip

    def save(self, step: int, score: float | None = None) -> None:
        state = Checkpoint(
            step=step, policy=self.policy.sharded_state_dict(), prompt_source=self.prompts.state_dict(),
            reward_watch=self.reward_watch.state_dict(), rng=torch.get_rng_state(), score=score,
        )  # fmt: skip
        with doing("saving"):
            checkpoint.save(self.config.run.dir / "checkpoints", state, self.parallel)
        self.best_score = max(self.best_score, -math.inf if score is None else score)

    def resume(self) -> int | None:
        """The first step still to do if there is a checkpoint, with everything restored; else None."""
        state = checkpoint.load_latest(self.config.run.dir / "checkpoints", self.parallel)
        if state is None:
            return None
        if state.step > 0:
            start_updates(self.policy, self.config)
        self.policy.load_state_dict(state.read_policy(self.policy.sharded_state_dict(is_loading=True)))
        self.prompts.load_state_dict(state.prompt_source)
        self.reward_watch.load_state_dict(state.reward_watch)
        torch.set_rng_state(state.rng)
        self.weight_sync.run()
        self.monitor.resume_at(state.step)
        return state.step


def main(arguments: list[str]) -> int:
    try:
        config = config_from_arguments(arguments)
        with watch(60 * config.run.max_quiet_minutes):
            parallel = start(config.parallel)
            require_device(config.rollout, parallel.device)
            with agree(lambda: open_monitor(config, parallel.rank), parallel) as monitor:
                Trainer(config, parallel, monitor).run()
    except (UserError, RuntimeError) as error:
        return exit_code(error)
    stop()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
