// One person's story by Segment's client for Go, unchanged but for its host: story HOST KEY USER COOKIE EMAIL REFUSING WRONG_KEY
// Prints as JSON what the client said of what failed: of the story, and of a call with a wrong key to the host REFUSING.
package main

import (
	"encoding/json"
	"log"
	"os"
	"sync"
	"time"

	"github.com/segmentio/analytics-go/v3"
)

type heard struct {
	sync.WaitGroup
	mutex  sync.Mutex
	failed []string
}

func (h *heard) Success(analytics.Message) { h.Done() }

func (h *heard) Failure(_ analytics.Message, err error) {
	h.mutex.Lock()
	h.failed = append(h.failed, err.Error())
	h.mutex.Unlock()
	h.Done()
}

func client(host, key string, callback analytics.Callback) analytics.Client {
	made, err := analytics.NewWithConfig(key, analytics.Config{
		Endpoint: host, BatchSize: 5, Interval: 100 * time.Millisecond, Callback: callback,
		Logger: analytics.StdLogger(log.New(os.Stderr, "", 0)),
	})
	if err != nil {
		log.Fatal(err)
	}
	return made
}

func main() {
	host, key, user, cookie, email, refusing, wrong := os.Args[1], os.Args[2], os.Args[3], os.Args[4], os.Args[5], os.Args[6], os.Args[7]
	told, refused := heard{failed: []string{}}, heard{failed: []string{}}
	story := client(host, key, &told)
	told.Add(5)
	for _, message := range []analytics.Message{
		analytics.Page{AnonymousId: cookie, Name: "Pricing", Properties: analytics.NewProperties().SetURL("https://www.millwarden.example/pricing")},
		analytics.Identify{UserId: user, AnonymousId: cookie, Traits: analytics.NewTraits().SetEmail(email).SetTitle("Plant manager")},
		analytics.Group{UserId: user, GroupId: "account-7", Traits: analytics.NewTraits().SetName("Bo and Company")},
		analytics.Track{UserId: user, Event: "Demo Requested"},
		analytics.Alias{UserId: user, PreviousId: "old-" + cookie},
	} {
		if err := story.Enqueue(message); err != nil {
			log.Fatal(err)
		}
	}
	told.Wait()
	story.Close()
	other := client(refusing, wrong, &refused)
	refused.Add(1)
	other.Enqueue(analytics.Track{UserId: user, Event: "Demo Requested"})
	time.Sleep(time.Second) // it tries every error again, until it is closed
	other.Close()
	refused.Wait()
	json.NewEncoder(os.Stdout).Encode(map[string][]string{"story": told.failed, "wrong key": refused.failed})
}
