import ArgumentParser

@main
struct HoldfastCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "holdfast",
        abstract: "Keeps a live event channel between a backend and the screens of its users.",
        discussion: """
            See it work:
              holdfast demo                             then open the page it names and cut the line

            Use it, in three terminals:
              holdfast serve --dev --port 8080          a gateway that needs no configuration
              holdfast tail calls.live                  a subscriber that survives cuts
              holdfast publish calls.live '{"n":1}'     an event for it
            """,
        version: "0.1.0",
        subcommands: [
            Serve.self, Demo.self, Publish.self, Tail.self, Check.self, ImportSocketShark.self, Proxy.self,
            DrillCommand.self,
            DrillClientCommand.self, Simulate.self, Bench.self, Echo.self,
        ]
    )
}
