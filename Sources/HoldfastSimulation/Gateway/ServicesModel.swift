import HoldfastProtocol
import HoldfastServer
import NIOCore

/// The services behind the gateways: answer each message after a while, and remember what they were asked.
///
/// `@unchecked Sendable`: a simulation has one thread.
final class ServicesModel: @unchecked Sendable {
    private let agenda: Agenda
    private let dice: Dice
    private let fail: (Violation.Promise, String) -> Void
    /// Lives of nodes that have asked about a message. Another one knows nothing of the first and may ask again.
    private var asked: [String: Set<Int>] = [:]
    private var lives = 0

    /// Seconds for an answer.
    private static let delays = [0, 0, 0, 0.01, 0.01, 0.01, 0.3, 1]

    static let url = ServiceURL("http://service.invalid/")!

    init(_ agenda: Agenda, _ dice: Dice, fail: @escaping (Violation.Promise, String) -> Void) {
        self.agenda = agenda
        self.dice = dice
        self.fail = fail
    }

    /// For one life of a node.
    func answer(for node: SimulatedNode) -> Gateway.Services {
        self.lives += 1
        let life = self.lives
        return { [self] callback, body, answer in
            guard let id = (try? JSONObject(parsing: body))?["data"]?.string else { return answer(nil) }
            let isNew = self.asked[id, default: []].insert(life).inserted
            if !isNew { self.fail(.answered, "the service was asked twice about \(id)") }
            self.agenda.plan(in: self.dice.one(of: Self.delays)) {
                answer(JSONObject([.init(name: "status", value: JSONValue("ok"))]))
            }
        }
    }
}
