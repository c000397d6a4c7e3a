from .benchmark import Benchmark as Benchmark, StageSpeed as StageSpeed, benchmark as benchmark
