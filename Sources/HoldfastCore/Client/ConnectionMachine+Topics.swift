import HoldfastProtocol

/// Positions: what the app has had of each subscription, and what it has missed.
extension ConnectionMachine {
    mutating func subscribed(_ topic: ClientTopic, _ event: WireEvent) {
        let (since, wasActive) = (topic.since, topic.wasActive)
        var topic = topic
        topic.isActive = true
        topic.wasActive = true
        // Recovered or not, in the same epoch the messages go on from where we were; a gap says from where else.
        if let since, let position = event.position {
            if position.epoch != since.epoch { topic.position = Position(epoch: position.epoch, offset: 0) }
        } else {
            topic.position = event.position
        }
        self.topics[topic.name] = topic
        self.tell(.subscribed(subscription: topic.name, since: since, event: event))
        // A topic without history has no position to ask from. What was published while we were away is lost.
        if wasActive, since == nil { self.tellGap(topic.name, after: nil, next: nil) }
    }

    mutating func deliver(_ topic: ClientTopic, _ event: WireEvent) {
        if let position = topic.position, let offset = event.offset {
            guard offset > position.offset else {
                self.counts.duplicates += 1
                return
            }
            // `after`: what is in between is not for this session.
            let after = event["after"]?.unsignedInteger ?? .max
            if offset - position.offset > 1, after > position.offset {
                self.tellGap(topic.name, after: position.offset, next: offset)
            }
            self.topics[topic.name]?.position?.offset = offset
        }
        self.tell(.message(event))
    }

    mutating func receivedGap(_ topic: ClientTopic, _ event: WireEvent) {
        var after = event["after"]?.unsignedInteger
        let next = event["next"]?.unsignedInteger
        if let position = topic.position {
            if let epoch = event["epoch"]?.string, epoch != position.epoch {
                self.topics[topic.name]?.position = Position(epoch: epoch, offset: 0)
            } else if let told = after, let next {
                let known = max(told, position.offset)
                guard next > known, next - known > 1 else { return }  // We have it all.
                after = known
            }
        }
        if let next, next > 0 { self.topics[topic.name]?.position?.offset = next - 1 }
        self.tellGap(topic.name, after: after, next: next)
    }

    private mutating func tellGap(_ subscription: String, after: UInt64?, next: UInt64?) {
        self.counts.gaps += 1
        self.tell(.gap(subscription: subscription, after: after, next: next))
    }
}
