"""Durable jobs: data, training, evaluation, conversion and packing that outlive every process.

from livery.serve.jobs.jobs import Jobs
from livery.serve.jobs.request import JobRequest
jobs = Jobs(root)
job = jobs.submit(JobRequest(skill="date-keys", settings={"max_steps": 500}))
jobs.get(job.id).state  # "queued", until a worker (`livery jobs worker`) takes it
"""
