import ArgumentParser

struct Simulate: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Run gateways and clients in virtual time under random faults, and check what is promised.",
        discussion: """
            The client machines, the gateways behind their sockets and the broker are the real ones; time, networks, proxies \
            and apps are models. Ten minutes of an unkind world take about a tenth of a second. The same seed makes the same \
            run. What is checked, and what was found: docs/simulation.md.

              holdfast simulate --runs 1000                 a thousand worlds
              holdfast simulate --seed 42 --trace           what happens in one of them
              holdfast simulate herd --clients 10000        ten thousand clients that come back at once
            """,
        subcommands: [SimulateRuns.self, SimulateHerd.self],
        defaultSubcommand: SimulateRuns.self
    )
}
