import Foundation
import HoldfastCore
import HoldfastProtocol
import NIOCore

/// One file of `Tests/Scenarios`, whose README says what stands in it.
struct Scenario {
    struct Step {
        let at: Int
        let input: JSONTree
        let actions: [JSONTree]
        let times: Int
        let isLate: Bool
    }

    let name: String
    let after: String?
    let random: JSONTree?
    let options: [String: JSONTree]
    let steps: [Step]

    static let folder = URL(filePath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
        .appending(path: "Scenarios", directoryHint: .isDirectory)

    /// Names of all files, without `.json`.
    static var names: [String] {
        get throws {
            try FileManager.default.contentsOfDirectory(atPath: Self.folder.path())
                .filter { $0.hasSuffix(".json") }
                .map { String($0.dropLast(5)) }
                .sorted()
        }
    }

    static func text(_ name: String) throws -> ByteBuffer {
        ByteBuffer(bytes: try Data(contentsOf: Self.folder.appending(path: "\(name).json")))
    }

    init(_ name: String) throws {
        let file = try JSONTree(Self.text(name))
        try Self.check(file, knows: ["name", "why", "after", "random", "options", "steps"], in: name)
        self.name = name
        self.after = file["after"]?.string
        self.random = file["random"]
        self.options = file["options"]?.members ?? [:]
        self.steps = try (file["steps"]?.elements ?? []).map { step in
            try Self.check(step, knows: ["at", "input", "actions", "times", "late"], in: name)
            guard let at = step["at"]?.int, let input = step["input"], let actions = step["actions"] else {
                throw ScenarioFailure("\(name): a step without at, input or actions")
            }
            return Step(
                at: at,
                input: input.expanded,
                actions: actions.expanded.elements,
                times: step["times"]?.int ?? 1,
                isLate: step["late"] == .boolean(true)
            )
        }
    }

    private static func check(_ object: JSONTree, knows keys: Set<String>, in name: String) throws {
        let unknown = Set(object.members.keys).subtracting(keys)
        guard unknown.isEmpty else { throw ScenarioFailure("\(name): unknown keys \(unknown.sorted())") }
    }
}

struct ScenarioFailure: Error, CustomStringConvertible {
    let description: String

    init(_ description: String) {
        self.description = description
    }
}

/// What a scenario's `random` says.
final class ScriptedRandom {
    private let constant: Double?
    private(set) var rest: [Double]
    private(set) var wasExhausted = false

    init(_ random: JSONTree?) {
        self.constant = random?.double
        self.rest = random?.elements.compactMap(\.double) ?? []
    }

    func next() -> Double {
        if let constant = self.constant { return constant }
        guard !self.rest.isEmpty else {
            self.wasExhausted = true
            return 0
        }
        return self.rest.removeFirst()
    }
}
