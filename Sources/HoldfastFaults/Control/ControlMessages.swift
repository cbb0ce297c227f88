import Foundation

/// A request to the control server, whole.
struct ControlRequest: Sendable {
    var method: String
    /// With its query.
    var target: String
    var host: String?
    var origin: String?
    var body = Data()

    var path: String { String(self.target.prefix { $0 != "?" }) }

    /// - Returns: the value of a number in the query; 0 if there is none.
    func number(_ name: String) -> Int {
        let query = self.target.drop { $0 != "?" }.dropFirst()
        let value = query.split(separator: "&").first { $0.hasPrefix(name + "=") }
        return value.flatMap { Int($0.dropFirst(name.count + 1)) } ?? 0
    }
}

struct ControlAnswer: Sendable {
    var status: Int
    var headers: [(String, String)] = []
    var body = Data()

    static func json(_ value: some Encodable, status: Int = 200) -> ControlAnswer {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        do {
            let body = try encoder.encode(value) + Data("\n".utf8)
            return ControlAnswer(status: status, headers: [("Content-Type", "application/json")], body: body)
        } catch {
            return ControlAnswer(status: 500, body: Data("\(error)\n".utf8))
        }
    }

    static func error(_ status: Int, _ text: String) -> ControlAnswer {
        self.json(["error": text], status: status)
    }
}

/// What a deed or a cut takes: an object of words, all of which may be left out.
struct ControlWords {
    private let words: [String: String]

    /// - Parameter names: those that may stand in `body`. An empty body is an empty object.
    /// - Throws: ``FaultsError``.
    init(_ body: Data, names: [String]) throws(FaultsError) {
        guard !body.isEmpty else {
            self.words = [:]
            return
        }
        guard let words = try? JSONDecoder().decode([String: String].self, from: body) else {
            let known = names.isEmpty ? "nothing" : names.joined(separator: ", ")
            throw FaultsError("the body must be a JSON object of strings; there may stand in it: \(known)")
        }
        if let unknown = words.keys.sorted().first(where: { !names.contains($0) }) {
            guard !names.isEmpty else { throw FaultsError("there is nothing to say here; it is \(quoted(unknown))") }
            throw FaultsError("there is no \(quoted(unknown)) here\(didYouMean(unknown, names))")
        }
        self.words = words
    }

    /// - Throws: ``FaultsError`` if it is said and is none of `Choice`.
    func choice<Choice: RawRepresentable<String> & CaseIterable>(_ name: String, or other: Choice) throws(FaultsError)
        -> Choice
    {
        guard let word = self.words[name] else { return other }
        if let choice = Choice(rawValue: word) { return choice }
        let known = Choice.allCases.map(\.rawValue).joined(separator: ", ")
        throw FaultsError("\(name) must be one of \(known); it is \(quoted(word))")
    }

    /// - Throws: ``FaultsError`` if it is no direction, or is not said and there is no `other`.
    func directions(or other: Directions?) throws(FaultsError) -> Directions {
        guard let word = self.words["directions"] else {
            guard let other else { throw FaultsError("directions must be said: both, to-server or to-client") }
            return other
        }
        guard let directions = Directions(name: word), !directions.isEmpty else {
            throw FaultsError("directions must be one of both, to-server, to-client; it is \(quoted(word))")
        }
        return directions
    }
}
