"""A Ray cluster of a head and two machines that are none: ``python two_workers.py``.

Says the cluster's address, then kills, at each line of standard input, the machine with most actors
that are alive, and says how many it had. Ends with its standard input.
"""

import collections
import os
import sys


def main() -> None:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112  # or the workers starve on a busy machine
    import ray
    from ray.cluster_utils import Cluster

    small = {"object_store_memory": 80 * 2**20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **small})
    workers = [cluster.add_node(num_cpus=3, **small) for _ in range(2)]
    cluster.wait_for_nodes()
    ray.init(address=cluster.address, log_to_driver=False, logging_level="error")
    say(f"address {cluster.address}")
    for _ in sys.stdin:
        actors = ray._private.state.actors().values()
        on = collections.Counter(
            actor["Address"]["NodeID"] for actor in actors if actor["State"] == "ALIVE"
        )
        victim = max(workers, key=lambda node: on[node.node_id])
        cluster.remove_node(victim, allow_graceful=False)
        say(f"lost {on[victim.node_id]}")
    ray.shutdown()
    cluster.shutdown()


def say(words: str) -> None:
    sys.stdout.write(words + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
