"""The configuration of a run: YAML in, checked at once, resolved YAML out."""

from fettle.config.alerts import AlertsConfig
from fettle.config.checkers import CheckerConfig, checker_config
from fettle.config.checkpoints import CheckpointsConfig
from fettle.config.config import Config
from fettle.config.data import DataConfig
from fettle.config.dump import config_differences, config_hash, dump_config, dump_values
from fettle.config.endpoint import ApiConfig, EndpointConfig
from fettle.config.evaluation import EvaluationConfig, evaluation_config, evaluation_profiles
from fettle.config.files import check_files
from fettle.config.honoured import config_warnings, not_honoured
from fettle.config.lenses import LensesConfig
from fettle.config.load import check_section, load_config, parse_config
from fettle.config.lora import LoraConfig
from fettle.config.notify import NotifyConfig
from fettle.config.patterns import PatternsConfig
from fettle.config.predictions import PredictionsConfig
from fettle.config.sampling import SamplingConfig
from fettle.config.tinker import TinkerConfig, TinkerPrices, prices_in_force, published_prices
from fettle.config.training import TrainingConfig

__all__ = [
    "AlertsConfig",
    "ApiConfig",
    "CheckerConfig",
    "CheckpointsConfig",
    "Config",
    "DataConfig",
    "EndpointConfig",
    "EvaluationConfig",
    "LensesConfig",
    "LoraConfig",
    "NotifyConfig",
    "PatternsConfig",
    "PredictionsConfig",
    "SamplingConfig",
    "TinkerConfig",
    "TinkerPrices",
    "TrainingConfig",
    "check_files",
    "check_section",
    "checker_config",
    "config_differences",
    "config_hash",
    "config_warnings",
    "dump_config",
    "dump_values",
    "evaluation_config",
    "evaluation_profiles",
    "load_config",
    "not_honoured",
    "parse_config",
    "prices_in_force",
    "published_prices",
]
