"""pt_kmeans (VDC's k-means) on the clustering benchmark's data; run by the interpreter of its own environment."""

from __future__ import annotations

import json
import sys

import torch
from clustering_data import cpu_seconds, sphere_clusters  # the peer runs beside the file, without the package
from pt_kmeans import kmeans

points = torch.from_numpy(sphere_clusters())
started = cpu_seconds()
centres, labels = kmeans(points, n_clusters=500, max_iters=20, tol=0.0, init_method="kmeans++", random_seed=0)
spent = cpu_seconds() - started
potential = float(((points - centres[labels]) ** 2).sum(dtype=torch.float64))
json.dump({"cpu_s": round(spent, 2), "potential": round(potential, 1)}, sys.stdout)
