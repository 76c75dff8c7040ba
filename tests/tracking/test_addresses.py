"""Addresses of MLflow's pages."""

from __future__ import annotations

from dcod.tracking import addresses


def test_a_server_has_addresses_and_no_password_in_them() -> None:
    found = addresses.of_run("https://me:secret@mlflow.example/base/", "3", "r1", "my student", 7)
    assert found == {
        "MLflow run": "https://mlflow.example/base/#/experiments/3/runs/r1",
        "MLflow version": "https://mlflow.example/base/#/models/my%20student/versions/7",
    }
    assert addresses.of_run("http://mlflow:5000", "3", "r1", "m", None).keys() == {"MLflow run"}
    assert addresses.of_run("sqlite:////home/me/mlflow.db", "3", "r1", "m", 7) == {"MLflow run": "r1"}
