/// What the fake telephone system publishes: something happened to a call. Carries all that a page needs to show the call,
/// so that a page which missed the beginning is right again with the next event.
struct CallEvent: Encodable, Equatable {
    /// 1, 2, 3 ... in the order of publishing.
    var n: Int
    /// Changes with each start of the demo; `n` begins anew with it.
    var run: String
    /// Milliseconds since 1970, as are all times here.
    var at: Double
    var call: String
    var what: What
    var state: Call.State
    var from: Party
    var to: Party
    var began: Double
    var answered: Double?
    var ended: Double?
    /// How it sounds, 1 to 5; `nil` unless somebody talks.
    var sound: Int?

    enum What: String, Encodable {
        case rings
        case answered
        case held
        case resumed
        case sound
        case ended
        case unanswered
    }
}

struct Party: Encodable, Equatable {
    var name: String
    var number: String
}

/// One call in the fake telephone system.
struct Call: Equatable {
    enum State: String, Encodable {
        case ringing
        case talking
        case held
        case ended
    }

    let id: String
    let from: Party
    let to: Party
    let began: Double
    var state = State.ringing
    var answered: Double?
    var ended: Double?
    var sound: Int?
    /// When something happens to it by itself, ms since 1970.
    var due: Double
    /// When the talk is over.
    var hangUp: Double = .infinity
    var willBeAnswered: Bool
    var willBeHeld: Bool
}
