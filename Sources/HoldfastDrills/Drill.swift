/// One fault, and what must happen: faults.md of the design, and docs/drills.md.
public struct Drill: Sendable {
    /// What it cannot do without.
    public enum Need: Sendable {
        /// A gateway that may be configured, killed and asked.
        case ownGateway
        /// `redis-server` on the path.
        case redis
        /// A client with a page.
        case page
        /// More than the line protocol can say.
        case swiftClient
    }

    /// `f6-404`: the fault, and which kind of it.
    public let name: String
    /// In a few words, for the table.
    public let fault: String
    /// What it does and what must happen, for `--list`.
    public let does: String
    public let needs: [Need]
    /// Needs the machine for itself: it would disturb others, or they would disturb what it measures.
    public let isAlone: Bool
    let run: @Sendable (Stage) async throws -> Void

    init(
        _ name: String,
        _ fault: String,
        does: String,
        needs: [Need] = [],
        isAlone: Bool = false,
        run: @escaping @Sendable (Stage) async throws -> Void
    ) {
        self.name = name
        self.fault = fault
        self.does = does
        self.needs = needs
        self.isAlone = isAlone
        self.run = run
    }

    /// All, in the order of faults.md.
    public static let all: [Drill] =
        (Self.cuts + Self.proxies + Self.crowds + Self.redis + Self.slow + Self.sleeps + Self.strangers)
        .sorted { $0.number < $1.number }

    /// That of the fault.
    private var number: Int { Int(self.name.dropFirst().prefix { $0.isNumber }) ?? 0 }

    /// Those that a word means: a drill, or all kinds of a fault.
    public static func named(_ word: String) -> [Drill] {
        let word = word.lowercased()
        return Self.all.filter { $0.name == word || $0.name.hasPrefix(word + "-") }
    }
}
