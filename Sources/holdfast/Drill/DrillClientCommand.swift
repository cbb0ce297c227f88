import ArgumentParser
import HoldfastDrills

/// The Swift client in a process of its own, for drills that stop it. Speaks the line protocol of docs/drills.md.
struct DrillClientCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "drill-client",
        abstract: "The Swift client as `holdfast drill` drives it: one JSON object per line, see docs/drills.md.",
        shouldDisplay: false
    )

    func run() async throws {
        try await DrilledClient.run { printNow($0) }
    }
}
