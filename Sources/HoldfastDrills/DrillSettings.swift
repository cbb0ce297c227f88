/// What is drilled, and how thoroughly. The same for all drills of a run.
public struct DrillSettings: Sendable {
    /// How long the faults last that have no length of their own. The limits are the same for all.
    public enum Pace: String, Sendable, CaseIterable {
        case quick, normal, long

        /// F1, F3, F4: seconds of the cut.
        var cut: Double { self == .quick ? 10 : 60 }
        /// Seconds beyond a limit that are waited for, so that a figure can be shown for what is too late.
        var grace: Double { self == .quick ? 5 : 20 }
        /// F5: until the gateway has let go, at most so long.
        var cutUntilLetGo: Double { 45 }
        /// F6 to F9, F14, F17: seconds that a standing fault is watched.
        var watch: Double {
            switch self {
            case .quick: 12
            case .normal: 90
            case .long: 900
            }
        }
        /// F15: seconds of sleep.
        var sleep: Double {
            switch self {
            case .quick: 10
            case .normal: 90
            case .long: 600
            }
        }
    }

    /// The `holdfast` program, which is started as gateway and as client of its own process.
    public var executable: String
    public var pace = Pace.normal
    /// The gateway that is drilled; `nil` starts one of our own for each drill.
    public var url: String?
    /// For the server API of `url`.
    public var apiKey: String?
    /// A shell's command that is the client; `nil`: the Swift client.
    public var with: String?
    /// A shell's command that publishes; `nil`: the server API.
    public var publish: String?
    /// Service that is subscribed to.
    public var service = "drill"
    /// Clients of the drills that need many; `nil`: 1,000 of the Swift client, 20 of a command.
    public var clients: Int?
    /// Whether the client is told that the line is back.
    public var wakes = true

    public init(executable: String) {
        self.executable = executable
    }

    /// Seconds between two numbered events.
    static let interval = 0.2

    var crowd: Int { self.clients ?? (self.with == nil ? 1000 : 20) }

    /// F1: with the word that the line is back. Without it, the next attempt may be as far off as the cap of the backoff
    /// (client.md), and then has the same time.
    var backLimit: Double { self.wakes ? 2 : 12 }
}
